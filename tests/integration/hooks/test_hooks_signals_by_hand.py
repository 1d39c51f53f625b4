"""Signals of saves, deletes and relations that are not sent by Django, or not with all it gives."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Group, User
from django.db.models import signals

from django_webhooks.hooks import muted
from tests.testapp.hooks import listen, registered, saved, told
from tests.testapp.models import Order, OrderProxy, Parcel, Person, SpecialOrder, Tag

pytestmark = pytest.mark.django_db

EVERYTHING = {"raw": False, "using": "default", "update_fields": None}
KEYWORDS = [
    pytest.param({}, id="nothing"),
    pytest.param({"raw": False}, id="raw"),
    pytest.param({"using": "default"}, id="using"),
    pytest.param({"raw": False, "using": "default"}, id="as django-oscar"),
    pytest.param({"update_fields": None}, id="update_fields"),
    pytest.param({"update_fields": ["status"]}, id="a list of update_fields"),
    pytest.param({**EVERYTHING, "actor": "ann"}, id="more than Django gives"),
]
SENDERS = [
    pytest.param(Order, Order, id="itself"),
    pytest.param(OrderProxy, OrderProxy, id="a proxy"),
    pytest.param(OrderProxy, Order, id="a proxy, and an object of its model"),
    pytest.param(SpecialOrder, SpecialOrder, id="a child"),
    pytest.param(Order, SpecialOrder, id="the parent, and an object of a child"),
    pytest.param(SpecialOrder, Order, id="a child, and an object of the parent"),
    pytest.param(object, Order, id="no model"),
]


@pytest.fixture
def listening():
    return listen()


@pytest.fixture(params=[True, False], ids=["heard", "nobody listens"])
def is_heard(request):
    if request.param:
        listen()
    return request.param


@pytest.mark.parametrize("keywords", KEYWORDS)
@pytest.mark.parametrize("created", [{}, {"created": False}], ids=["no created", "created"])
def test_a_pair_around_an_update_by_a_query_set_is_told(is_heard, keywords, created):
    """What django-oscar does with its stock records."""
    with registered(Order, fields=["status"]):
        order = saved()

        signals.pre_save.send(sender=Order, instance=order, **keywords)
        with muted():
            Order.objects.filter(pk=order.pk).update(status="paid")
        order.refresh_from_db()
        signals.post_save.send(sender=Order, instance=order, **created, **keywords)

    expected = [("order.updated", {"status": "paid", "changed": ["status"]})]
    assert told() == (expected if is_heard else [])


def test_a_pair_tells_what_the_database_has_although_the_object_is_stale(listening):
    with registered(Order, fields=["status"]):
        order = saved()

        signals.pre_save.send(sender=Order, instance=order, raw=False, using="default")
        with muted():
            Order.objects.filter(pk=order.pk).update(status="paid")
        signals.post_save.send(
            sender=Order, instance=order, created=False, raw=False, using="default"
        )

    assert told() == [("order.updated", {"status": "paid", "changed": ["status"]})]


def test_a_pair_around_nothing_tells_nothing(listening):
    with registered(Order):
        order = saved()
        signals.pre_save.send(sender=Order, instance=order)
        signals.post_save.send(sender=Order, instance=order, created=False)

    assert told() == []


@pytest.mark.parametrize("keywords", KEYWORDS)
def test_created_is_told_without_the_signal_before(is_heard, keywords):
    with registered(Order, fields=["number"]):
        order = saved(number="A1")
        signals.post_save.send(sender=Order, instance=order, created=True, **keywords)

    assert told() == ([("order.created", {"number": "A1"})] if is_heard else [])


@pytest.mark.parametrize(
    ("keywords", "changed"),
    [
        pytest.param({}, ["status", "total"], id="nobody says what changed"),
        pytest.param({"update_fields": ["status", "stock"]}, ["status"], id="the sender says it"),
        pytest.param({**EVERYTHING}, ["status", "total"], id="all keywords"),
    ],
)
def test_updated_without_the_signal_before_names_what_may_have_changed(
    listening, keywords, changed
):
    with registered(Order, fields=["status"], watch=["status", "total"]):
        order = saved()
        order.status = "never saved"
        signals.post_save.send(sender=Order, instance=order, created=False, **keywords)

    assert told() == [("order.updated", {"status": "new", "changed": changed})]


@pytest.mark.parametrize(("sender", "kind"), SENDERS)
@pytest.mark.parametrize("created", [True, False], ids=["created", "updated"])
def test_any_sender_is_taken(listening, sender, kind, created):
    with registered(Order), registered(SpecialOrder, fields=["wish"]):
        instance = saved(kind)
        signals.pre_save.send(sender=sender, instance=instance)
        signals.post_save.send(sender=sender, instance=instance, created=created)
        signals.post_save.send(sender=sender, instance=instance, created=created)

    assert all(event_type.startswith(("order.", "specialorder.")) for event_type, _ in told())


@pytest.mark.parametrize(
    "instance",
    [
        pytest.param(None, id="none"),
        pytest.param("order", id="a text"),
        pytest.param(Order(), id="not saved"),
        pytest.param(Order(pk=77), id="a key without a row"),
        pytest.param(Parcel(), id="not saved, with a key by default"),
    ],
)
def test_what_is_in_no_row_is_not_told(listening, instance):
    with registered(Order), registered(Parcel):
        kind = type(instance)
        for created in (True, False):
            signals.post_save.send(sender=kind, instance=instance, created=created)
        signals.pre_save.send(sender=kind, instance=instance)
        signals.post_save.send(sender=kind, instance=instance)
        signals.post_save.send(sender=kind)
        signals.pre_save.send(sender=kind)

    assert told() == []


def test_a_deferred_object_is_told_in_whole(listening, django_assert_max_num_queries):
    with registered(Order, fields=["number", "status", "total"]):
        order = Order.objects.only("pk").get(pk=saved(number="A1").pk)
        with django_assert_max_num_queries(6):
            signals.post_save.send(sender=Order, instance=order, created=True)

    assert [data["number"] for _, data in told()] == ["A1"]


@pytest.mark.parametrize("keywords", [{}, {"using": "default"}, {"origin": None, "more": 1}])
@pytest.mark.parametrize("which", ["both", "post_delete"])
def test_deletes_are_told_by_either_signal(is_heard, keywords, which):
    with registered(Order, fields=["number"]):
        order = saved(number="A1")
        order.number = "never saved"
        if which == "both":
            signals.pre_delete.send(sender=Order, instance=order, **keywords)
        signals.post_delete.send(sender=Order, instance=order, **keywords)

    assert told() == ([("order.deleted", {"number": "A1"})] if is_heard else [])


def test_the_first_of_two_signals_alone_deletes_nothing_and_leaves_nothing(listening):
    with registered(Order):
        order = saved()
        signals.pre_delete.send(sender=Order, instance=order)
        assert told() == []

        order.delete()

    assert [event_type for event_type, _ in told()] == ["order.deleted"]


def test_deletes_of_what_was_never_saved_are_not_told(listening):
    with registered(Order):
        for instance in (None, "order", Order()):
            signals.pre_delete.send(sender=Order, instance=instance)
            signals.post_delete.send(sender=Order, instance=instance)
        signals.post_delete.send(sender=Order)

    assert told() == []


@pytest.mark.parametrize(
    ("keywords", "is_told"),
    [
        ({}, False),
        ({"action": "post_add"}, False),
        ({"action": "pre_remove"}, False),
        ({"action": "post_add", "pk_set": True}, True),
        ({"action": "post_remove", "pk_set": True}, True),
        ({"action": "post_remove", "pk_set": True, "model": Tag, "using": "default"}, True),
        ({"action": "post_clear"}, False),
        ({"action": "made up", "pk_set": True}, False),
    ],
    ids=str,
)
def test_relations_are_told_as_far_as_the_sender_says(listening, keywords, is_told):
    with registered(Order, fields=["number", "tags"], m2m=["tags"]):
        order, tag = saved(number="A1"), saved(Tag)
        order.number = "never saved"
        if keywords.get("pk_set"):
            keywords = {**keywords, "pk_set": {tag.pk}}
        signals.m2m_changed.send(sender=Order.tags.through, instance=order, **keywords)
        signals.m2m_changed.send(sender=Order.tags.through, **keywords)

    expected = [("order.updated", {"number": "A1", "tags": [], "changed": ["tags"]})]
    assert told() == (expected if is_told else [])


def test_relations_of_what_was_never_saved_are_not_told(listening):
    with registered(Person, m2m=["friends"]):
        signals.m2m_changed.send(
            sender=Person.friends.through, instance=Person(), action="post_add", pk_set={1}
        )

    assert told() == []


def test_signals_about_users_and_groups_that_are_sent_by_hand_are_taken_too():
    """The audit trail listens to them."""
    user, group = User.objects.create(username="ann"), Group.objects.create(name="staff")

    for signal in (signals.pre_save, signals.post_save, signals.pre_delete):
        signal.send(sender=User, instance=user)
    user.is_staff = True
    signals.pre_save.send(sender=User, instance=user)
    signals.post_save.send(sender=User, instance=user, created=False)
    signals.pre_delete.send(sender=Group, instance=group)
    for action in ("post_add", "pre_clear", ""):
        signals.m2m_changed.send(sender=User.groups.through, instance=user, action=action)

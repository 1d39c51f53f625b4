"""Hooks tell what the database has: never what is in memory alone, and in the order of writes."""

from __future__ import annotations

import itertools
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from django.conf import settings
from django.contrib.auth.models import Group, User
from django.core import serializers
from django.db import connection, models
from django.db.models import signals
from django.utils import translation
from django.utils.functional import cached_property

from django_webhooks import hooks
from django_webhooks.hooks import ModelWebhooks, muted
from django_webhooks.models import Event
from django_webhooks.testing import capture_webhooks
from tests.testapp.hooks import listen, registered, saved, told, told_changes
from tests.testapp.models import (
    Club,
    Country,
    Membership,
    Order,
    Parcel,
    Person,
    Shop,
    SpecialOrder,
    Tag,
)

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _somebody_listens():
    listen()


@contextmanager
def receiver(function, signal=signals.post_save, *, sender=Order, is_first=False):
    signal.connect(function, sender=sender)
    if is_first:
        # Receivers are called in the order in which they were connected.
        signal.receivers.insert(0, signal.receivers.pop())
        signal.sender_receivers_cache.clear()
    try:
        yield
    finally:
        signal.disconnect(function, sender=sender)


@registered(Order, fields=["number", "status", "shop"])
def test_what_a_save_leaves_out_is_told_as_it_is():
    shop, other = saved(Shop), saved(Shop)
    order = saved(number="A1", shop=shop)
    order.number, order.status, order.shop = "never saved", "paid", other

    order.save(update_fields=["status"])

    data = {"number": "A1", "status": "paid", "shop": shop.pk, "changed": ["status"]}
    assert told() == [("order.updated", data)]
    assert (order.number, order.shop) == ("never saved", other)


@pytest.mark.parametrize("written", [["wish"], ["status"], ["wish", "status"]], ids=str)
def test_what_a_save_leaves_out_of_a_parent_or_a_child_is_told_as_it_is(written):
    with registered(Order, fields=["number"]), registered(SpecialOrder, fields=["number", "wish"]):
        order = saved(SpecialOrder, number="A1", wish="none")
        order.number, order.status, order.wish = "never saved", "paid", "saved"
        order.save(update_fields=written)

    assert {data["number"] for _, data in told()} == {"A1"}
    wishes = {data.get("wish") for _, data in told()} - {None}
    assert wishes == ({"saved"} if "wish" in written else {"none"})


def test_a_payload_of_ones_own_sees_the_row_and_what_belongs_to_it():
    def payload(self, order):
        return {"shop": order.shop.name, "number": order.number, "note": order.note}

    with registered(Order, payload=payload):
        order = saved(number="A1", shop=saved(Shop, name="corner"))
        order.number, order.status, order.note = "never saved", "paid", "of the project"
        order.shop = saved(Shop, name="never saved")
        order.save(update_fields=["status"])

    [(_, data)] = told()
    assert data["shop"] == "corner"
    assert (data["number"], data["note"]) == ("A1", "of the project")


def test_what_was_computed_of_values_in_memory_is_computed_again(monkeypatch):
    label = cached_property(lambda self: f"#{self.number}")
    label.__set_name__(Order, "shout")
    monkeypatch.setattr(Order, "shout", label, raising=False)
    with registered(Order, fields=["shout"]):
        order = saved(number="A1")
        order.number, order.status = "never saved", "paid"
        assert order.shout == "#never saved"
        order.save(update_fields=["status"])

    assert told()[0][1]["shout"] == "#A1"


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda order, tag: order.tags.add(tag), id="add"),
        pytest.param(lambda order, tag: order.tags.set([tag]), id="set"),
        pytest.param(lambda order, tag: tag.orders.add(order), id="from the other side"),
        pytest.param(
            lambda order, tag: hooks.updated([order], changed=["status"]), id="told by hand"
        ),
        pytest.param(lambda order, tag: order.delete(), id="delete"),
        pytest.param(lambda order, tag: Order.objects.filter(pk=order.pk).delete(), id="of a set"),
        pytest.param(lambda order, tag: hooks.created([order]), id="created by hand"),
    ],
)
def test_no_change_tells_what_was_never_saved(change):
    with registered(Order, fields=["number"], m2m=["tags"]):
        order, tag = saved(number="A1"), saved(Tag)
        order.number = "never saved"
        change(order, tag)

    assert [data["number"] for _, data in told()] == ["A1"]


@registered(Order, fields=["number", "status"], coalesce=True)
def test_changes_that_are_told_as_one_tell_what_the_database_has():
    order = Order.objects.create(number="A1")
    order.number, order.status = "never saved", "paid"
    order.save(update_fields=["status"])

    assert told() == [("order.created", {"number": "A1", "status": "paid"})]


@registered(Order, fields=["number"])
def test_what_a_receiver_does_to_the_object_and_does_not_save_is_not_told():
    def spoil(instance, **kwargs):
        instance.number = "never saved"

    with receiver(spoil):
        order = Order.objects.create(number="A1")
        order.number = "A2"
        order.save()

    assert [data["number"] for _, data in told()] == ["A1", "A2"]


@pytest.mark.parametrize("is_first", [False, True], ids=["after hooks", "before hooks"])
@pytest.mark.parametrize(
    "again",
    [
        pytest.param(lambda order: order.save(), id="save"),
        pytest.param(lambda order: order.save(update_fields=["status"]), id="some fields"),
        pytest.param(lambda order: [order.save(), order.save()], id="twice"),
    ],
)
def test_created_is_told_before_what_a_receiver_saves_within(again, is_first):
    def pay(instance, created, **kwargs):
        if created:
            instance.status = "paid"
            again(instance)

    with registered(Order, fields=["status"]), receiver(pay, is_first=is_first):
        Order.objects.create()

    assert told() == [
        ("order.created", {"status": "new"}),
        ("order.updated", {"status": "paid", "changed": ["status"]}),
    ]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param(
            lambda order: Order.objects.get(pk=order.pk).tags.create(name="new"),
            ["order.created", "order.updated"],
            id="a relation",
        ),
        pytest.param(
            lambda order: Order.objects.filter(pk=order.pk).update(status="paid"),
            ["order.created", "order.updated"],
            id="a query set",
        ),
        pytest.param(
            lambda order: Order.objects.get(pk=order.pk).delete(),
            ["order.created", "order.deleted"],
            id="deleted",
        ),
    ],
)
def test_created_is_told_before_what_a_receiver_does_otherwise(change, expected):
    def after(instance, created, **kwargs):
        if created:
            change(instance)

    with registered(Order, m2m=["tags"]), receiver(after):
        Order.objects.create()

    assert [event_type for event_type, _ in told()] == expected


def test_a_save_within_the_signal_before_is_told_once():
    def first(instance, **kwargs):
        if instance.number == "":
            instance.number = "A1"
            instance.save()
            instance.number = "A2"

    with registered(Order, fields=["number"]), receiver(first, signals.pre_save):
        Order().save()

    assert told() == [
        ("order.created", {"number": "A1"}),
        ("order.updated", {"number": "A2", "changed": ["number"]}),
    ]


def test_a_save_that_failed_leaves_nothing_that_a_later_one_tells():
    def refuse(instance, **kwargs):
        if instance.number == "refused":
            raise ValueError("refused")

    with registered(Order, fields=["number"]), receiver(refuse, signals.pre_save):
        order = Order(number="refused")
        for _ in range(2):
            with pytest.raises(ValueError, match="refused"):
                order.save()
        order.number = "A1"
        order.save()
        order.status = "paid"
        order.save()

    assert told() == [
        ("order.created", {"number": "A1"}),
        ("order.updated", {"number": "A1", "changed": ["status"]}),
    ]


class Extended(ModelWebhooks):
    """Extends what the fields give."""

    fields = ["number", "status"]

    def payload(self, order):
        return {**super().payload(order), "is_paid": order.status == "paid"}


class Again(Extended):
    """Extends that."""

    def payload(self, order):
        return super().payload(order) | {"again": True}


class Excluding(Extended):
    """Names what is left out."""

    fields, exclude = None, ["shop", "notes", "stock", "total", "id"]


@pytest.mark.parametrize(
    ("hook", "more"), [(Extended, {}), (Again, {"again": True}), (Excluding, {})], ids=str
)
def test_a_payload_may_extend_that_of_the_fields(hook, more):
    hooks.register(Order)(hook)
    try:
        Order.objects.create(number="A1", status="paid")
    finally:
        hooks.unregister(Order)

    expected = {"number": "A1", "status": "paid", "is_paid": True, **more}
    assert told() == [("order.created", expected)]


MOMENT = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
FORMS = [
    pytest.param(Order, "total", "1.5", "1.50", id="decimal as text"),
    pytest.param(Order, "total", 1, "1.00", id="decimal as int"),
    pytest.param(Order, "total", 1.5, "1.50", id="decimal as float"),
    pytest.param(Order, "total", Decimal("1E+2"), "100.00", id="decimal with an exponent"),
    pytest.param(Order, "total", Decimal("1.5"), "1.50", id="decimal with one place"),
    pytest.param(Order, "stock", "42", 42, id="int as text"),
    pytest.param(Order, "stock", True, 1, id="int as boolean"),
    pytest.param(Order, "stock", Decimal("42"), 42, id="int as decimal"),
    pytest.param(Order, "number", 42, "42", id="text as int"),
    pytest.param(Order, "notes", {"a": (1, 2)}, {"a": [1, 2]}, id="json with a tuple"),
    pytest.param(Order, "notes", {1: 2}, {"1": 2}, id="json with a number as key"),
    pytest.param(Parcel, "sent_at", "2026-01-31T13:00:00+01:00", None, id="moment as text"),
    pytest.param(
        Parcel,
        "sent_at",
        MOMENT.astimezone(timezone(timedelta(hours=5))),
        "2026-01-31T12:00:00Z",
        id="moment elsewhere",
    ),
    pytest.param(
        Parcel,
        "id",
        "018F3C7E000070008000000000000000",
        "018f3c7e-0000-7000-8000-000000000000",
        id="uuid as text",
    ),
    pytest.param(Parcel, "is_fragile", 1, True, id="boolean as int"),
    pytest.param(Parcel, "label", "a.pdf", "a.pdf", id="file"),
]


@pytest.mark.parametrize(("model", "name", "given", "form"), FORMS)
@pytest.mark.filterwarnings("ignore:DateTimeField .* received a naive datetime")
def test_a_value_has_one_form_whatever_tells_of_it(model, name, given, form):
    if name == "sent_at" and not settings.USE_TZ:
        pytest.skip("Django takes no aware moment without USE_TZ.")
    watch = "stock" if model is Order else "weight"
    with registered(model, fields=[name]):
        instance = model(**{name: given})
        instance.save()
        setattr(instance, watch, 99)
        instance.save()
        fresh = model.objects.get(pk=instance.pk)
        setattr(fresh, watch, 100)
        fresh.save()
        hooks.created([instance])
        instance.delete()
        hooks.deleted([instance_of(model, name, given)])

    forms = [data[name] for _, data in told()]
    if name == "stock":
        forms = [forms[0], *forms[-1:]]
    assert set(map(str, forms)) == {str(form if form is not None else forms[0])}
    assert {type(one) for one in forms} == {type(forms[0])}


def instance_of(model, name, given):
    instance = model(**{name: given})
    instance.pk = instance.pk or 1
    return instance


def test_a_decimal_has_one_form_in_events_too():
    from django_webhooks import events

    numbers = ["1E+2", "100", "1.50", "-0", "1E-8", "0E+5", "1E+600"]
    with capture_webhooks() as webhooks:
        events.emit("order.paid", [Decimal(one) for one in numbers])

    expected = ["100", "100", "1.50", "-0", "0.00000001", "0", "1E+600"]
    [event] = webhooks.events
    assert event.data == expected


@registered(Order, fields=["number"], raw=True)
def test_what_is_restored_is_told_where_a_hook_asks_for_it():
    order = saved(number="A1")
    [kept] = serializers.deserialize("json", serializers.serialize("json", [order]))
    order.number = "A2"
    with muted():
        order.save()

    kept.save()
    kept.save()
    order.delete()
    kept.save()

    assert told() == [
        ("order.updated", {"number": "A1", "changed": ["number"]}),
        ("order.deleted", {"number": "A1"}),
        ("order.created", {"number": "A1"}),
    ]


def test_rows_of_a_relation_are_told_when_they_are_added_and_when_they_go():
    with registered(Membership, fields=["club", "person"]):
        club, ann, bob = saved(Club), saved(Person), saved(Person)
        club.members.add(ann)
        club.members.add(ann)
        bob.clubs.add(club)
        club.members.remove(ann)
        club.members.clear()

    one, two = ({"club": club.pk, "person": person.pk} for person in (ann, bob))
    assert told() == [
        ("membership.created", one),
        ("membership.created", two),
        ("membership.deleted", one),
        ("membership.deleted", two),
    ]


def test_rows_of_a_relation_that_nobody_hears_of_are_not_told():
    with registered(Membership, fields=["club"], actions=["deleted"]):
        saved(Club).members.add(saved(Person))
    with registered(Membership, fields=["club"]), muted():
        saved(Club).members.add(saved(Person))

    assert told() == []


@registered(Order, payload=lambda self, order: {"status": order.get_status_display(), "at": LAZY})
def test_the_same_object_reads_the_same_in_every_language():
    order = saved()
    for language in ("de", "fr"):
        with translation.override(language):
            order.stock += 1
            order.save()

    assert {data["at"] for _, data in told()} == {"Monday"}


LAZY = translation.gettext_lazy("Monday")


@registered(Parcel, fields=["double_weight"], watch=["double_weight"])
def test_a_generated_field_changes_with_the_field_that_is_saved():
    parcel = saved(Parcel, weight=2)
    parcel.weight = 3
    parcel.save(update_fields=["weight"])

    data = {"double_weight": 6, "changed": ["double_weight"]}
    assert told() == [("parcel.updated", data)]


@registered(Parcel, fields=["double_weight"])
def test_a_generated_field_is_told_as_it_was_when_its_object_is_deleted():
    parcel = saved(Parcel, weight=2)
    Parcel.objects.filter(pk=parcel.pk).update(weight=4)
    parcel.weight = 7

    parcel.delete()

    assert told() == [("parcel.deleted", {"double_weight": 8})]


@pytest.mark.skipif(connection.vendor != "sqlite", reason="triggers are written otherwise")
@pytest.mark.parametrize("reread", [False, True])
def test_what_a_trigger_changes_is_told_where_a_hook_asks_for_it(reread):
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE TRIGGER shout AFTER UPDATE OF number ON testapp_order "
            "BEGIN UPDATE testapp_order SET status = 'paid' WHERE id = NEW.id; END"
        )
    with registered(Order, fields=["status"], reread=reread):
        order = saved()
        order.number = "A1"
        order.save()

    changed = ["number", "status"] if reread else ["number"]
    status = "paid" if reread else "new"
    assert told() == [("order.updated", {"status": status, "changed": changed})]


@registered(Country, fields=["code", "number"])
def test_a_row_that_is_written_over_by_a_new_object_is_compared_with_it():
    saved(Country, code="fr", number=33)
    Country(code="fr", number=34).save()

    assert told() == [("country.updated", {"code": "fr", "number": 34, "changed": ["number"]})]


def test_deletes_read_again_only_what_may_be_stale(django_assert_num_queries):
    with registered(Order, fields=["number"], actions=["deleted"]):
        shop = saved(Shop)
        few = [saved(shop=shop) for _ in range(3)]
        with muted(), Counting() as without:
            Order.objects.filter(pk__in=[one.pk for one in few]).delete()
        few = [saved(shop=shop) for _ in range(3)]
        with Counting() as of_a_set:
            Order.objects.filter(pk__in=[one.pk for one in few]).delete()
        for _ in range(3):
            saved(shop=shop)
        with Counting() as cascade:
            shop.delete()

    reads = "SELECT", "FROM", "testapp_order"
    assert [one.matching(*reads) for one in (without, of_a_set)] == [1, 1]
    assert cascade.matching(*reads) == 1
    assert Event.objects.count() == 6


class Counting:
    """Count statements."""

    def __enter__(self):
        from django.test.utils import CaptureQueriesContext

        self._context = CaptureQueriesContext(connection)
        self._context.__enter__()
        return self

    def __exit__(self, *args):
        self._context.__exit__(*args)

    def matching(self, *parts):
        found = [one["sql"] for one in self._context.captured_queries]
        return sum(
            one.startswith(parts[0]) and f'{parts[1]} "{parts[2]}"' in one.replace("`", '"')
            for one in found
        )


@pytest.mark.parametrize("listener", [None, "other.*"], ids=["nobody", "to something else"])
@pytest.mark.django_db(transaction=True)
def test_silence_costs_one_query_each_time(django_assert_num_queries, listener):
    Event.objects.all().delete()
    from django_webhooks.models import Subscription

    Subscription.objects.all().delete()
    if listener:
        listen(listener)
    with registered(Order, m2m=["tags"]):
        order = saved()
        for status in ("new", "new", "paid"):
            order.status = status
            with django_assert_num_queries(2):
                order.save()


def test_hooks_are_turned_off_by_a_setting_but_for_what_a_test_captures(settings):
    settings.WEBHOOKS_MODEL_HOOKS = False
    with registered(Order, m2m=["tags"]):
        order = Order.objects.create()
        order.tags.create(name="new")
        Order.objects.update(status="paid")
        hooks.created([order])
        order.delete()
        assert told() == []

        with capture_webhooks() as webhooks:
            Order.objects.create()
        webhooks.assert_emitted("order.created", times=1)


def test_the_order_of_columns_is_no_change():
    with registered(Order):
        order = saved(notes={"a": 1, "b": 2})
        order.notes = {"b": 2, "a": 1}
        order.save()

    assert told_changes() == []


def test_every_combination_of_partial_saves_tells_the_row():
    names = ["number", "status", "stock"]
    values = {"number": "A2", "status": "paid", "stock": 3}
    with registered(Order, fields=names):
        for count in range(1, 4):
            for written in itertools.combinations(names, count):
                order = saved(number="A1", status="new", stock=10)
                for name, value in values.items():
                    setattr(order, name, value)
                order.save(update_fields=written)
                row = Order.objects.values(*names).get(pk=order.pk)

                assert told()[-1][1] == {**row, "changed": sorted(written)}


@registered(User, fields=["username", "groups"], m2m=["groups"])
def test_models_of_django_itself_may_be_told_of():
    user = User.objects.create(username="ann")
    group = Group.objects.create(name="staff")
    user.username = "never saved"
    user.groups.add(group)

    assert [data["username"] for _, data in told()] == ["ann", "ann"]


def test_a_value_that_compares_with_nothing_changes_with_its_column():
    class Price:
        def __init__(self, amount):
            self.amount = amount

    class PriceField(models.IntegerField):
        def get_prep_value(self, value):
            return value.amount if isinstance(value, Price) else value

    from django_webhooks.hooks import values

    field = PriceField()
    assert not values.differ(field, Price(1), Price(1))
    assert values.differ(field, Price(1), Price(2))

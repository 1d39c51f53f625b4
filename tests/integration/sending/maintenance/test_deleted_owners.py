"""Owners that are deleted, and keys of owners of all kinds."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest
from django.contrib.auth.models import Group
from django.db import connection, models, transaction

from django_webhooks import events, signals, times
from django_webhooks.auditing import audit
from django_webhooks.models import Delivery, Event, Subscription
from django_webhooks.models.owner import OwnerKey
from django_webhooks.sending import notifications
from django_webhooks.sending.maintenance import deleted_owners
from tests import factories
from tests.testapp.hooks import listen, registered, saved, told
from tests.testapp.models import Country, Lease, Order, Parcel, Shop, ShopProxy, SpecialOrder

pytestmark = pytest.mark.django_db

REMOVALS = [
    pytest.param(lambda shop: shop.delete(), id="the object"),
    pytest.param(lambda shop: ShopProxy.objects.get(pk=shop.pk).delete(), id="by a proxy"),
    pytest.param(lambda shop: Shop.objects.filter(pk=shop.pk).delete(), id="by a query set"),
]


@pytest.fixture
def told_of():
    heard = []

    def hear(subscription, reason, **kwargs):
        heard.append((subscription.name, reason))

    signals.subscription_disabled.connect(hear)
    yield heard
    signals.subscription_disabled.disconnect(hear)


@pytest.mark.parametrize("remove", REMOVALS)
def test_its_subscriptions_are_disabled_and_people_are_told(
    remove, told_of, django_capture_on_commit_callbacks
):
    shop, other = saved(Shop, name="corner"), saved(Shop)
    mine, others, nobodys = listen(owner=shop), listen(owner=other), listen()

    with django_capture_on_commit_callbacks(execute=True):
        remove(shop)

    statuses = {one.pk: one.status for one in Subscription.objects.all()}
    assert statuses == {mine.pk: "disabled", others.pk: "active", nobodys.pk: "active"}
    mine.refresh_from_db()
    assert mine.status_reason.startswith("Its owner, ")
    assert told_of == [("Listener", mine.status_reason)]


@registered(Order, owner=lambda self, order: order.shop)
def test_what_is_deleted_with_it_is_kept_and_not_sent():
    shop = saved(Shop)
    subscription = listen(owner=shop)
    saved(shop=shop)

    shop.delete()

    factories.fan_out()
    assert [event_type for event_type, _ in told()] == ["order.deleted"]
    delivery = Delivery.objects.get(subscription=subscription)
    assert (delivery.status, delivery.due_at) == ("waiting", None)


def test_a_rollback_leaves_them_as_they_were(told_of, django_capture_on_commit_callbacks):
    shop = saved(Shop)
    subscription = listen(owner=shop)

    with django_capture_on_commit_callbacks(execute=True), transaction.atomic():
        shop.delete()
        transaction.set_rollback(True)

    subscription.refresh_from_db()
    assert (subscription.status, told_of) == ("active", [])


@pytest.mark.parametrize(("choice", "left"), [("keep", ["active"]), ("delete", [])])
def test_a_project_may_choose_otherwise(settings, choice, left, told_of):
    settings.WEBHOOKS_OWNER_DELETED = choice
    shop = saved(Shop)
    listen(owner=shop)

    shop.delete()

    assert [one.status for one in Subscription.objects.all()] == left
    assert told_of == []


@pytest.mark.parametrize("label", ["auth.Group", "auth.group"])
def test_models_that_are_named_are_heard_from_the_start(settings, label, monkeypatch):
    """In a process that has never met one of their objects as an owner."""
    monkeypatch.setattr(deleted_owners, "_watched", set())
    settings.WEBHOOKS_OWNER_MODELS = [label, "nobody.knows", "nonsense"]
    group = Group.objects.create(name="customers")
    subscription = Subscription(name="Listener", event_types=["*"])
    subscription.owner_type, subscription.owner_id = "auth.group", str(group.pk)
    subscription.save()

    deleted_owners.watch_declared()
    group.delete()

    subscription.refresh_from_db()
    assert subscription.status == "disabled"


@pytest.mark.django_db(databases=["default", "other"], transaction=True)
def test_an_owner_in_another_database():
    country = Country.objects.using("other").create(code="fr", number=33)
    subscription = listen(owner=country)

    with transaction.atomic(using="other"):
        country.delete()
        subscription.refresh_from_db()
        assert subscription.status == "active"

    subscription.refresh_from_db()
    assert subscription.status == "disabled"


def test_an_audit_finds_owners_that_went_past_us():
    shop, other = saved(Shop), saved(Shop)
    gone = listen(owner=shop)
    listen(owner=other)
    dropped = listen()
    Subscription.objects.filter(pk=dropped.pk).update(owner_type="dropped.model", owner_id="1")
    Shop.objects.filter(pk=shop.pk)._raw_delete("default")
    unreadable = listen()
    Subscription.objects.filter(pk=unreadable.pk).update(
        owner_type="testapp.parcel", owner_id="no uuid"
    )

    found = [
        one.subject
        for one in audit.run(now=times.now() + timedelta(days=1)).findings
        if one.id == "webhooks.A040"
    ]

    assert sorted(found) == sorted(f"subscription:{one.pk}" for one in (gone, dropped))


KEY = "018f3c7e-0000-7000-8000-000000000000"


@pytest.mark.parametrize(
    ("owner", "key"),
    [
        pytest.param(Shop(pk=7), "7", id="a number"),
        pytest.param(Shop(pk="7"), "7", id="a number as text"),
        pytest.param(Parcel(pk=UUID(KEY)), KEY, id="a UUID"),
        pytest.param(Parcel(pk=KEY.upper()), KEY, id="a UUID as text"),
        pytest.param(Parcel(pk=KEY.replace("-", "")), KEY, id="a UUID as digits"),
        pytest.param(Country(pk="fr"), "fr", id="a text"),
        pytest.param(Country(pk="k" * 255), "k" * 255, id="a long text"),
        pytest.param(SpecialOrder(pk=7), "7", id="a child"),
        pytest.param(Parcel(pk="no uuid"), "no uuid", id="what is no key"),
    ],
)
def test_an_owner_has_one_key_whatever_is_in_memory(owner, key):
    assert OwnerKey.of(owner).id == key


@pytest.mark.parametrize(
    "owner",
    [
        pytest.param(Country(pk="k" * 256), id="too long"),
        pytest.param(Country(pk="f\x00"), id="NUL"),
        pytest.param(Shop(), id="not saved"),
        pytest.param("shop", id="a text"),
        pytest.param(Shop, id="a class"),
        pytest.param(7, id="a number"),
    ],
)
def test_what_cannot_be_an_owner_is_refused_before_anything_is_written(owner):
    subscription = Subscription(name="Listener", event_types=["*"], is_global=True)
    subscription.save()

    with transaction.atomic():
        saved(Shop)
        with pytest.raises(ValueError, match="owner"):
            events.emit("order.paid", {}, owner=owner)
        with pytest.raises(ValueError, match="owner"):
            subscription.owner = owner

    assert Shop.objects.exists()
    assert not Event.objects.exists()


def test_an_owner_with_a_long_key_works():
    subscription = Subscription(name="Listener", event_types=["*"])
    country = Country(code="k" * 200)
    subscription.owner = country
    subscription.save()

    event = events.emit("order.paid", {}, owner=country)
    factories.fan_out()

    assert event.deliveries.get().subscription == subscription
    # SQLite does not mind the length of the column.
    if connection.vendor == "sqlite":
        Country.objects.create(code="k" * 200, number=1)
        assert subscription.owner == country


def test_an_owner_with_a_composite_key_works(lease):
    subscription = listen(owner=lease)
    subscription.refresh_from_db()

    event = events.emit("order.paid", {}, owner=lease)

    assert subscription.owner == event.owner == lease
    lease.delete()
    subscription.refresh_from_db()
    assert (subscription.status, subscription.owner) == ("disabled", None)


@pytest.fixture
def lease():
    return Lease.objects.create(shop=saved(Shop), flat="4b")


def test_a_model_that_is_watched_twice_is_heard_once():
    before = len(models.signals.pre_delete.receivers)
    deleted_owners.watch(Shop)
    deleted_owners.watch(Shop)
    after = len(models.signals.pre_delete.receivers)
    deleted_owners.watch(Shop)

    assert after - before in (0, 2)
    assert len(models.signals.pre_delete.receivers) == after


def test_a_mail_tells_of_it(settings, mailoutbox):
    settings.WEBHOOKS_NOTIFY = ["ops@example.com"]
    shop = saved(Shop)
    listen(owner=shop)
    shop.delete()

    notifications.tell(now=times.now() + timedelta(minutes=5))

    [mail] = mailoutbox
    assert "Its owner, " in mail.body

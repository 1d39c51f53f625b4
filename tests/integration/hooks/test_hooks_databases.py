"""Model hooks: objects that live in another database than the events."""

from __future__ import annotations

import pytest
from django.db import transaction

from django_webhooks import hooks, wakeups
from django_webhooks.exceptions import PayloadError
from django_webhooks.models import Event, Subscription
from django_webhooks.sending import recording
from tests import factories
from tests.receivers import receiving
from tests.testapp.hooks import listen, registered, told
from tests.testapp.models import Order, Shop, Tag

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])


@pytest.fixture(autouse=True)
def _somebody_listens(monkeypatch):
    monkeypatch.setattr(wakeups, "wake_for_events", lambda events: None)
    listen()


@registered(Order, fields=["status"], m2m=["tags"], coalesce=True)
def test_changes_in_another_database_are_told_when_it_has_committed():
    with transaction.atomic(using="other"):
        order = Order.objects.using("other").create()
        order.status = "paid"
        order.save()
        order.tags.add(Tag.objects.using("other").create())
        order.delete()
        assert told() == []

    assert told() == [
        ("order.created", {"status": "new"}),
        ("order.updated", {"status": "paid", "changed": ["status"]}),
        ("order.updated", {"status": "paid", "changed": ["tags"]}),
        ("order.deleted", {"status": "paid"}),
    ]


@registered(Order)
def test_a_rollback_there_tells_nothing():
    with transaction.atomic(using="other"):
        Order.objects.using("other").bulk_create([Order()])
        Order.objects.using("other").create()
        transaction.set_rollback(True, using="other")

    assert told() == []


@registered(Order, coalesce=True)
def test_bulk_writes_there_are_told_when_it_has_committed():
    with transaction.atomic(using="other"):
        Order.objects.using("other").bulk_create([Order(pk=7)])
        Order.objects.using("other").update(status="paid")
        hooks.deleted(Order.objects.using("other").all())
        assert told() == []

    assert told() == [
        ("order.created", {"id": 7}),
        ("order.updated", {"id": 7, "changed": ["status"]}),
        ("order.deleted", {"id": 7}),
    ]


@registered(Order, fields=["notes"])
def test_the_data_is_that_of_the_moment_of_the_change():
    with transaction.atomic(using="other"):
        order = Order.objects.using("other").create(notes={"gift": True})
        order.notes["gift"] = False

    assert told() == [("order.created", {"notes": {"gift": True}})]


@registered(Order, owner=lambda self, order: order.shop)
def test_the_owner_is_that_of_the_moment_of_the_change():
    Subscription.objects.update(is_global=True)
    with transaction.atomic(using="other"):
        shop = Shop.objects.using("other").create()
        key = str(shop.pk)
        order = Order.objects.using("other").create(shop=shop)
        order.delete()
        shop.delete()

    assert [one.owner_id for one in Event.objects.all()] == [key, key]


class Replicas:
    """Read from a copy that lags behind, as Django's documentation shows it."""

    def db_for_read(self, model, **hints):
        return "other"

    def db_for_write(self, model, **hints):
        return "default"

    def allow_relation(self, *objects, **hints):
        return True


@registered(Order, fields=["tags"], m2m=["tags"])
def test_data_is_read_where_it_was_written(settings):
    tag = Tag.objects.create()
    order = Order.objects.create()
    settings.DATABASE_ROUTERS = [Replicas()]

    with transaction.atomic():
        order.tags.add(tag)

    settings.DATABASE_ROUTERS = []
    assert told()[-1] == ("order.updated", {"tags": [tag.pk], "changed": ["tags"]})


def test_what_was_read_from_a_copy_is_changed_where_one_writes(settings):
    with receiving() as receiver:
        made = factories.subscription(name="copied", url=receiver.url)
        endpoint = made.endpoints.get()
        settings.DATABASE_ROUTERS = [Replicas()]
        for row in (made, endpoint):
            row._state.db = "other"
        made._prefetched_objects_cache = {}
        endpoint.subscription = made

        made.pause("maintenance")
        made.resume()
        made.rotate_key()
        endpoint.pin("it is the only one", by="anna")
        endpoint.unpin(by="anna")
        endpoint.disable("gone")
        endpoint.enable()

        settings.DATABASE_ROUTERS = []
    made = Subscription.objects.get(name="copied")
    assert made.is_active
    assert made.signing_keys.count() == 2
    assert made.endpoints.get().is_usable


@registered(Order, payload=lambda self, order: {"bad": object()})
def test_data_that_cannot_be_sent_fails_the_save_there_too():
    with pytest.raises(PayloadError), transaction.atomic(using="other"):
        Order.objects.using("other").create()

    assert not Order.objects.using("other").exists()


@registered(Order)
def test_what_is_captured_is_captured_at_once():
    captured = []

    with recording.capture(captured.append), transaction.atomic(using="other"):
        Order.objects.using("other").create()
        assert len(captured) == 1

    assert told() == []


@registered(Order)
def test_an_object_that_was_not_loaded_belongs_where_the_router_says():
    hooks.created([Order(pk=7)])

    assert told() == [("order.created", {"id": 7})]

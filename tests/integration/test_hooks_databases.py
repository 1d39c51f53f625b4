"""Model hooks: objects that live in another database than the events."""

from __future__ import annotations

import pytest
from django.db import transaction

from django_webhooks import events, hooks
from django_webhooks.exceptions import PayloadError
from django_webhooks.sending import outbox
from tests.testapp.hooks import listen, registered, told
from tests.testapp.models import Order, Tag

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])


@pytest.fixture(autouse=True)
def _somebody_listens(monkeypatch):
    monkeypatch.setattr(events.tasks, "wake", lambda ids: None)
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


@registered(Order, payload=lambda self, order: {"bad": object()})
def test_data_that_cannot_be_sent_fails_the_save_there_too():
    with pytest.raises(PayloadError), transaction.atomic(using="other"):
        Order.objects.using("other").create()

    assert not Order.objects.using("other").exists()


@registered(Order)
def test_what_is_captured_is_captured_at_once():
    captured = []

    with outbox.capture(captured.append), transaction.atomic(using="other"):
        Order.objects.using("other").create()
        assert len(captured) == 1

    assert told() == []


@registered(Order)
def test_an_object_that_was_not_loaded_belongs_where_the_router_says():
    hooks.created([Order(pk=7)])

    assert told() == [("order.created", {"id": 7})]

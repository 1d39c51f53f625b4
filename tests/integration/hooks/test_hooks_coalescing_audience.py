"""Model hooks: several changes of one object in one transaction, told as one to the right ones."""

from __future__ import annotations

import pytest
from django.db import transaction

from django_webhooks import wakeups
from django_webhooks.models import Event
from tests import factories
from tests.testapp.hooks import listen, registered, saved, told
from tests.testapp.models import Order, Shop

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _nobody_is_woken(monkeypatch):
    monkeypatch.setattr(wakeups, "wake_for_events", lambda events: None)


@pytest.fixture
def everything():
    return listen()


@pytest.fixture
def order():
    return saved()


def change(order, **values):
    """Set the values and save."""
    for name, value in values.items():
        setattr(order, name, value)
    order.save()


@registered(Order, fields=["status"], coalesce=True)
def test_who_listens_to_updates_only_does_not_hear_of_a_new_object():
    listen("order.updated")

    with transaction.atomic():
        change(Order.objects.create(), status="paid")

    assert told() == []


@registered(Order, fields=["status"], coalesce=True, actions=["updated", "deleted"])
def test_an_object_whose_creation_is_not_told_is_not_told_in_its_transaction(everything):
    with transaction.atomic():
        change(Order.objects.create(), status="paid")

    assert told() == []


@registered(Order, coalesce=True)
def test_an_update_is_withdrawn_from_its_listeners_when_the_object_goes(order):
    updates, deletes = listen("order.updated"), listen("order.deleted")

    with transaction.atomic():
        change(order, status="paid")
        order.delete()

    factories.fan_out()
    event = Event.objects.get()
    assert event.type == "order.deleted"
    assert event.deliveries.get().subscription == deletes
    assert not updates.deliveries.exists()


@registered(Order, coalesce=True, actions=["created", "updated"])
def test_what_was_told_is_withdrawn_where_deletes_are_not_told(everything, order):
    with transaction.atomic():
        change(order, status="paid")
        order.delete()
        Order.objects.create().delete()

    assert told() == []


@registered(Order, coalesce=True, condition=lambda self, order, action: order.status == "paid")
def test_the_condition_is_asked_of_the_last_state(everything):
    with transaction.atomic():
        told_later, withdrawn = Order.objects.create(), Order.objects.create(status="paid")
        change(told_later, status="paid")
        change(withdrawn, status="new")

    assert told() == [("order.created", {"id": told_later.pk})]


@registered(Order, coalesce=True, owner=lambda self, order: order.shop)
def test_an_object_that_changes_its_owner_is_told_to_the_last_one_only():
    first, last = Shop.objects.create(), Shop.objects.create()
    former, present = listen(owner=first), listen(owner=last)

    with transaction.atomic():
        order = Order.objects.create(shop=first)
        change(order, shop=last)

    factories.fan_out()
    assert Event.objects.get().owner == last
    assert present.deliveries.count() == 1
    assert not former.deliveries.exists()


@registered(Order, fields=["status"], coalesce=True)
def test_what_stands_is_rewritten_even_where_nobody_seems_to_listen(everything, order, monkeypatch):
    with transaction.atomic():
        change(order, status="paid")
        monkeypatch.setattr(
            "django_webhooks.sending.recording.hearing.of_types",
            lambda event_types, *, using: {"order.created"},
        )
        change(order, status="new")

    assert told() == [("order.updated", {"status": "new", "changed": ["status"]})]


@registered(Order, coalesce=True)
def test_nobody_listening_costs_one_query(order, django_assert_num_queries):
    with transaction.atomic(), django_assert_num_queries(2):
        change(order, status="paid")

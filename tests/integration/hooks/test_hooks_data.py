"""Model hooks: what is told of a change, to whom, and what is not told."""

from __future__ import annotations

from datetime import datetime

import pytest
from django.core import serializers
from django.db import models, transaction
from django.db.models.functions import Upper

from django_webhooks import events, times
from django_webhooks.exceptions import PayloadError
from django_webhooks.hooks import muted
from django_webhooks.models import Event
from django_webhooks.sending import recording
from tests import factories
from tests.testapp.hooks import listen, registered, saved, told
from tests.testapp.models import (
    Country,
    Order,
    Parcel,
    Shop,
)

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _somebody_listens():
    listen()


@registered(Order, fields=["stock"])
def test_a_deleted_object_is_told_as_it_was_in_the_database():
    order = saved()
    order.stock = "many"

    order.delete()

    assert told() == [("order.deleted", {"stock": 10})]


@registered(Order, fields=["id", "stock"])
def test_a_value_that_the_database_computes_is_told_as_computed():
    order = saved(stock=10)
    order.stock = models.F("stock") - 3

    order.save()
    order.delete()

    assert [(event_type, data["stock"]) for event_type, data in told()] == [
        ("order.updated", 7),
        ("order.deleted", 7),
    ]


@registered(Order)
def test_an_expression_that_computes_the_same_value_sends_nothing():
    order = saved(stock=10)
    order.stock = models.F("stock") + 0

    order.save()

    assert told() == []


@registered(Order, fields=["number"])
def test_an_object_created_with_an_expression_is_told_as_stored():
    Order.objects.create(number=Upper(models.Value("a1")))

    assert told() == [("order.created", {"number": "A1"})]


@registered(Parcel, fields=["double_weight"])
def test_generated_fields_are_told_as_generated():
    parcel = Parcel.objects.create(weight=2)
    parcel.weight = 3
    parcel.save()

    assert told() == [
        ("parcel.created", {"double_weight": 4}),
        ("parcel.updated", {"double_weight": 6, "changed": ["double_weight", "weight"]}),
    ]


@registered(Parcel, fields=["country", "label", "sent_at"])
@pytest.mark.filterwarnings("ignore:DateTimeField .* received a naive datetime")
def test_values_are_told_as_the_database_will_give_them_back():
    country = saved(Country, code="fr", number=33)

    local = datetime(2026, 1, 31, 12)
    Parcel.objects.create(country=country, label="a.pdf", sent_at=local)

    sent_at = f"{times.aware(local):%Y-%m-%dT%H:%M:%S}Z"

    assert told() == [
        (
            "parcel.created",
            {"country": 33, "label": "a.pdf", "sent_at": sent_at},
        )
    ]


@registered(Order)
def test_fixtures_send_nothing():
    order = saved()
    order.status = "paid"
    [loaded] = serializers.deserialize("json", serializers.serialize("json", [order]))

    loaded.save()

    assert told() == []


@registered(Order)
def test_a_muted_block_sends_nothing():
    with muted():
        order = Order.objects.create()
        with muted():
            order.status = "paid"
        order.save()
        order.tags.create(name="new")
        order.delete()
        Order.objects.bulk_create([Order()])
        Order.objects.update(status="paid")

    assert told() == []


@registered(Order)
def test_a_muted_function_sends_nothing_and_is_over_when_it_returns():
    @muted()
    def imported():
        return Order.objects.create()

    imported().delete()

    assert [event_type for event_type, _ in told()] == ["order.deleted"]


@registered(Order, condition=lambda self, order, action: order.status == "paid")
def test_the_condition_decides_on_every_action():
    order = Order.objects.create()
    order.number = "A1"
    order.save()
    Order.objects.create().delete()
    order.status = "paid"
    order.save()
    order.delete()

    assert [event_type for event_type, _ in told()] == ["order.updated", "order.deleted"]


@registered(Order, actions=["deleted"])
def test_only_the_actions_that_are_named_are_told():
    order = Order.objects.create()
    order.status = "paid"
    order.save()
    order.delete()

    assert [event_type for event_type, _ in told()] == ["order.deleted"]


@registered(Order, owner=lambda self, order: order.shop)
def test_an_event_reaches_the_subscriptions_of_its_owner_only():
    mine, other = saved(Shop), saved(Shop)
    subscription = listen(owner=mine)
    listen(owner=other)

    Order.objects.create(shop=mine)

    factories.fan_out()
    event = Event.objects.get()
    assert event.owner == mine
    assert [one.subscription_id for one in event.deliveries.all()] == [subscription.pk]


@registered(Order, fields=["id", "label"])
def test_the_data_may_hold_attributes_that_are_no_fields():
    Order.objects.create(number="A1")

    assert told()[0][1]["label"] == "#A1"


@registered(Order, payload=lambda self, order: [order.status])
def test_data_of_ones_own_may_be_anything_and_has_no_changed_then():
    order = Order.objects.create()
    order.status = "paid"
    order.save()

    assert told() == [("order.created", ["new"]), ("order.updated", ["paid"])]


def as_dictionary(order):
    """Serialise by a plain function."""
    return {"number": order.number}


class AsSerializer:
    """Serialise as the serializers of REST frameworks do."""

    def __init__(self, order):
        self.data = {"number": order.number}


@pytest.mark.parametrize(
    "serializer", [as_dictionary, staticmethod(as_dictionary), AsSerializer], ids=repr
)
def test_a_serializer_makes_the_data(serializer):
    with registered(Order, serializer=serializer, fields=None):
        order = Order.objects.create(number="A1")
        order.number = "A2"
        order.save()

    assert told() == [
        ("order.created", {"number": "A1"}),
        ("order.updated", {"number": "A2", "changed": ["number"]}),
    ]


@registered(Order, payload=lambda self, order: {"bad": object()})
def test_data_that_cannot_be_sent_fails_the_save_and_the_transaction_decides():
    with pytest.raises(PayloadError, match=r"data\.bad"), transaction.atomic():
        Order.objects.create()

    assert not Order.objects.exists()


@registered(Order, payload=lambda self, order: 1 // 0)
def test_an_error_of_the_payload_reaches_who_saves():
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        Order.objects.create()

    assert not Order.objects.exists()


@registered(Order)
def test_a_rollback_leaves_nothing():
    with transaction.atomic():
        Order.objects.create()
        transaction.set_rollback(True)

    assert told() == []


@registered(Order)
def test_an_event_that_is_captured_is_not_recorded():
    captured = []

    with recording.capture(captured.append):
        Order.objects.create()

    assert [event.type for event in captured] == ["order.created"]
    assert told() == []


@registered(Order)
def test_events_are_emitted_through_the_module_so_that_it_can_be_replaced(monkeypatch):
    drafts = []
    monkeypatch.setattr(events, "emit_many", lambda some, *, using: drafts.extend(some) or [])

    Order.objects.create()

    assert [draft.event_type for draft in drafts] == ["order.created"]

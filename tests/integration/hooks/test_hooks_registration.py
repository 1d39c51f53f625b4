"""Model hooks: what is refused at registration, and what is declared."""

from __future__ import annotations

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db.models import signals

from django_webhooks import catalog
from django_webhooks.exceptions import UnknownEventType
from django_webhooks.hooks import ModelWebhooks, register, unregister
from tests.testapp.hooks import registered
from tests.testapp.models import (
    Country,
    Membership,
    Named,
    Order,
    OrderProxy,
    Parcel,
    Person,
    Shop,
    SpecialOrder,
    Tag,
)

pytestmark = pytest.mark.every_case

UUID, MOMENT = "018f3c7e-0000-7000-8000-000000000000", "2026-01-31T12:00:00Z"


@pytest.mark.parametrize(
    ("model", "attributes", "message"),
    [
        pytest.param(Order, {}, "must name fields or exclude, or override payload", id="nothing"),
        pytest.param(Order, {"fields": ["id"], "exclude": ["id"]}, "choose one", id="both"),
        pytest.param(Order, {"fields": ["nmber"]}, "names 'nmber'", id="unknown field"),
        pytest.param(Order, {"exclude": ["nmber"]}, "names 'nmber'", id="unknown exclude"),
        pytest.param(Order, {"fields": [], "watch": ["nmber"]}, "names 'nmber'", id="watch"),
        pytest.param(Order, {"fields": [], "m2m": ["nmber"]}, "names 'nmber'", id="unknown m2m"),
        pytest.param(Order, {"fields": [], "watch": ["tags"]}, "into m2m", id="watch a relation"),
        pytest.param(Shop, {"fields": [], "watch": ["order"]}, "into m2m", id="watch reverse"),
        pytest.param(Order, {"fields": [], "m2m": ["number"]}, "no many-to-many", id="no m2m"),
        pytest.param(Order, {"fields": [], "actions": ["saved"]}, r"\['saved'\]", id="action"),
        pytest.param(Shop, {"fields": ["order"]}, "cannot send 'order'", id="reverse relation"),
        pytest.param(Order, {"fields": ["shop_id"]}, "cannot send 'shop_id'", id="column"),
        pytest.param(Parcel, {"exclude": ["id"]}, "sends 'changed'", id="changed is taken"),
        pytest.param(Named, {"fields": ["name"]}, "Named is abstract", id="abstract"),
        pytest.param(
            Order.tags.through, {"fields": ["id"]}, "name the field in m2m", id="made by Django"
        ),
        pytest.param(Order, {"fields": ["save"]}, "'save', which is no value", id="a method"),
        pytest.param(
            Order, {"fields": ["get_status_display"]}, "is no value", id="a method of a field"
        ),
        pytest.param(Order, {"fields": ["objects"]}, "'objects', which is no", id="a manager"),
        pytest.param(Order, {"fields": ["DoesNotExist"]}, "which is no value", id="a class"),
        pytest.param(Shop, {"fields": ["order_set"]}, "is no value", id="a reverse manager"),
        pytest.param(Tag, {"fields": ["orders"]}, "cannot send 'orders'", id="a reverse relation"),
        pytest.param(Order, {"fields": ["specialorder"]}, "'specialorder' by itself", id="child"),
    ],
)
def test_a_mistake_is_refused_with_what_to_do(model, attributes, message):
    hook = type("Hook", (ModelWebhooks,), attributes)

    with pytest.raises(ImproperlyConfigured, match=message):
        register(model)(hook)


@pytest.mark.parametrize("again", [Order, OrderProxy])
def test_a_model_is_registered_once(again):
    with registered(Order), pytest.raises(ImproperlyConfigured, match=r"registered .* twice"):
        register(again)(type("Other", (ModelWebhooks,), {"fields": ["id"]}))


def test_two_models_cannot_share_event_types():
    with registered(Order), pytest.raises(ValueError, match="declared twice"):
        register(Shop)(type("Other", (ModelWebhooks,), {"fields": ["id"], "prefix": "order"}))


def test_one_class_may_serve_several_models():
    with registered(Order, Shop, fields=["id"]):
        names = {one.name for one in catalog.all()}

    assert {"order.created", "shop.created"} <= names


def test_event_types_are_declared_by_prefix_and_action_and_forgotten_with_the_hook():
    with registered(Order, prefix="sale", actions=["created", "deleted"]):
        assert catalog.get("sale.created").description == "Order created."
        with pytest.raises(UnknownEventType):
            catalog.get("sale.updated")

    with pytest.raises(UnknownEventType):
        catalog.get("sale.created")


@registered(Order, event_type=lambda self, action: f"shop.order.{action}.v2")
def test_event_types_may_be_named_otherwise():
    assert catalog.get("shop.order.created.v2")


@registered(Order, payload=lambda self, order: {}, fields=["id"])
def test_fields_that_a_payload_of_ones_own_extends_are_declared_without_a_shape():
    assert catalog.get("order.created").schema is None


@registered(Order, payload=lambda self, order: {})
def test_data_of_ones_own_is_declared_without_a_shape():
    assert catalog.get("order.created").schema is None
    assert catalog.get("order.created").example is None


@registered(Order, exclude=["shop", "notes", "stock"])
def test_excluding_fields_leaves_the_other_columns():
    schema = catalog.get("order.created").schema

    assert list(schema["properties"]) == ["id", "number", "status", "total"]


@registered(Order, fields=["id", "label"])
def test_updates_are_declared_with_what_changed():
    event_type = catalog.get("order.updated")

    assert event_type.schema == {
        "type": "object",
        "properties": {
            "id": {"type": "integer"},
            "label": {},
            "changed": {"type": "array", "items": {"type": "string"}},
        },
        "required": ["id", "label", "changed"],
    }
    assert event_type.example == {"id": 42, "label": None, "changed": ["label"]}


@pytest.mark.parametrize(
    ("model", "name", "schema", "example"),
    [
        (Order, "number", {"type": "string"}, "text"),
        (Order, "total", {"type": "string"}, "42.00"),
        (Order, "notes", {}, {}),
        (Order, "status", {"type": "string", "enum": ["new", "paid"]}, "new"),
        (Order, "shop", {"type": ["integer", "null"]}, 42),
        (Order, "tags", {"type": "array", "items": {"type": "integer"}}, [42]),
        (Parcel, "id", {"type": "string", "format": "uuid"}, UUID),
        (Parcel, "size", {"type": "string", "enum": ["", "s", "l"]}, "s"),
        (Parcel, "grade", {"type": ["integer", "null"], "enum": [1, 2, None]}, 1),
        (Parcel, "is_fragile", {"type": "boolean"}, True),
        (Parcel, "sent_at", {"type": ["string", "null"], "format": "date-time"}, MOMENT),
        (Parcel, "country", {"type": ["integer", "null"]}, 42),
        (Country, "code", {"type": "string"}, "text"),
        (Person, "friends", {"type": "array", "items": {"type": "integer"}}, [42]),
    ],
)  # fmt: skip
def test_the_shape_of_a_field_is_derived_from_it(model, name, schema, example):
    with registered(model, fields=[name], prefix="it", actions=["created"]):
        declared = catalog.get("it.created")

    assert declared.schema["properties"][name] == schema
    assert declared.example == {name: example}


def test_only_deletes_of_registered_models_are_heard():
    # Of each row, a receiver costs a model its fast deletes.
    with registered(SpecialOrder):
        assert signals.post_delete.has_listeners(SpecialOrder)
        assert not signals.post_delete.has_listeners(Order)
        assert not signals.pre_delete.has_listeners(Membership)


def test_unregistering_leaves_what_other_hooks_need():
    with registered(OrderProxy):
        with registered(SpecialOrder):
            pass

        assert signals.post_delete.has_listeners(Order)
        assert not signals.post_delete.has_listeners(SpecialOrder)

    assert not signals.post_delete.has_listeners(Order)


def test_unregistering_what_is_not_registered_does_nothing():
    unregister(Order)

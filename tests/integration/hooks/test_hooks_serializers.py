"""Hooks: what serializers of other packages make, and what is refused when Django starts."""

from __future__ import annotations

import dataclasses
from collections import UserDict

import pytest
from django.core.checks import run_checks
from django.urls import path
from rest_framework import serializers

from django_webhooks import events
from django_webhooks.testing import capture_webhooks
from tests.testapp.hooks import registered
from tests.testapp.models import Order, Shop

pytestmark = pytest.mark.django_db


class Plain(serializers.ModelSerializer):
    class Meta:
        model = Order
        fields = ["number", "total"]


class Linked(serializers.HyperlinkedModelSerializer):
    class Meta:
        model = Order
        fields = ["url", "number", "shop"]
        extra_kwargs = {"url": {"view_name": "order"}, "shop": {"view_name": "shop"}}


class Nested(serializers.ModelSerializer):
    order = Linked(source="*")
    orders = Linked(many=True, source="order_set")

    class Meta:
        model = Shop
        fields = ["order", "orders"]


class Broken(serializers.ModelSerializer):
    class Meta:
        model = Order
        fields = ["nmber"]


def errors():
    found = [one for one in run_checks(tags=["webhooks"]) if one.id.startswith("webhooks.E")]
    return [(one.id, one.msg) for one in found]


def test_a_serializer_that_needs_nothing_is_taken():
    with registered(Order, serializer=Plain, fields=None), capture_webhooks() as webhooks:
        assert errors() == []
        Order.objects.create(number="A1", total=1)

    assert webhooks.events[0].data == {"number": "A1", "total": "1.00"}


@pytest.mark.parametrize(
    ("serializer", "model", "fields"),
    [
        pytest.param(Linked, Order, "url, shop", id="links"),
        pytest.param(Nested, Shop, "order.url, order.shop, orders.url, orders.shop", id="inside"),
    ],
)
def test_one_that_tells_urls_is_refused_when_django_starts(serializer, model, fields):
    with registered(model, serializer=serializer, fields=None):
        [(id, message)] = errors()

    assert id == "webhooks.E089"
    assert f"tells URLs ({fields})" in message


def test_one_that_cannot_make_its_fields_is_refused_when_django_starts():
    with registered(Order, serializer=Broken, fields=None):
        [(id, message)] = errors()

    assert id == "webhooks.E084"
    assert "nmber" in message


def test_a_hook_gives_it_a_context(settings):
    settings.ROOT_URLCONF = "tests.integration.hooks.test_hooks_serializers"
    context = {"request": None}
    hook = {
        "serializer": Linked,
        "fields": None,
        "get_serializer_context": lambda self: context,
    }
    with registered(Order, **hook), capture_webhooks() as webhooks:
        assert errors() == []
        order = Order.objects.create(number="A1", shop=Shop.objects.create())

    urls = {"url": f"/orders/{order.pk}", "shop": f"/shops/{order.shop.pk}"}
    assert webhooks.events[0].data == {"number": "A1", **urls}


@dataclasses.dataclass
class Record:
    """Has a field of that name."""

    data: str
    total: object = None


class Pydantic:
    """As objects of pydantic are."""

    def __init__(self, **fields):
        self.__dict__.update(fields)

    def model_dump(self, mode="python"):
        assert mode == "json"
        return dict(vars(self))


class Attrs:
    """As objects of attrs are."""

    __attrs_attrs__ = [dataclasses.field(), dataclasses.field()]
    __attrs_attrs__[0].name, __attrs_attrs__[1].name = "data", "total"

    def __init__(self, **fields):
        self.__dict__.update(fields)


class Struct:
    """As objects of msgspec are."""

    __struct_fields__ = ("data", "total")

    def __init__(self, **fields):
        self.__dict__.update(fields)


class Attributes(dict):
    """A dictionary with attributes."""

    __getattr__ = dict.__getitem__


RECORDS = [Record, Pydantic, Attrs, Struct, Attributes, UserDict]


@pytest.mark.parametrize("kind", RECORDS, ids=lambda one: one.__name__)
def test_an_object_with_a_field_called_data_is_sent_in_whole(kind):
    def serializer(order):
        return kind(data=order.number, total=str(order.total))

    hook = {"serializer": serializer, "fields": None}
    with registered(Order, **hook), capture_webhooks() as webhooks:
        order = Order.objects.create(number="A1")
        order.number = "A2"
        order.save()

    assert [event.data for event in webhooks.events] == [
        {"data": "A1", "total": "0.00"},
        {"data": "A2", "total": "0.00", "changed": ["number"]},
    ]


@pytest.mark.parametrize("kind", RECORDS[:4], ids=lambda one: one.__name__)
def test_events_take_such_objects_wherever_they_are(kind):
    with capture_webhooks() as webhooks:
        events.emit("order.paid", kind(data=1, total=2))
        events.emit("order.paid", {"rows": [kind(data=1, total=None)]})

    assert [event.data for event in webhooks.events] == [
        {"data": 1, "total": 2},
        {"rows": [{"data": 1, "total": None}]},
    ]


def test_a_class_of_records_is_none():
    with capture_webhooks(), pytest.raises(ValueError, match="cannot be sent"):
        events.emit("order.paid", Record)


urlpatterns = [
    path("orders/<int:pk>", lambda request, pk: None, name="order"),
    path("shops/<int:pk>", lambda request, pk: None, name="shop"),
]

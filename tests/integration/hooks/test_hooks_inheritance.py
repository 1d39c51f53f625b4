"""Model hooks: proxies and multi-table inheritance."""

from __future__ import annotations

import pytest

from tests.testapp.hooks import listen, registered, saved, told
from tests.testapp.models import (
    Order,
    OrderProxy,
    SpecialOrder,
)

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _somebody_listens():
    listen()


@registered(OrderProxy, fields=["id"], prefix="order")
def test_a_proxy_and_its_model_are_one():
    Order.objects.create()
    OrderProxy.objects.create().delete()

    assert [event_type for event_type, _ in told()] == [
        "order.created",
        "order.created",
        "order.deleted",
    ]


@registered(SpecialOrder, fields=["id", "wish"])
def test_a_child_is_told_once_and_its_parent_is_not():
    special = SpecialOrder.objects.create(wish="red")
    special.status = "paid"
    special.save()
    special.delete()
    Order.objects.create().delete()

    assert [event_type for event_type, _ in told()] == [
        "specialorder.created",
        "specialorder.updated",
        "specialorder.deleted",
    ]


@registered(Order)
def test_a_hook_of_the_parent_hears_of_the_parents_part_of_its_children():
    special = SpecialOrder.objects.create()
    special.wish = "red"
    special.save()
    special.status = "paid"
    special.save()
    key = special.pk
    special.delete()

    assert told() == [
        ("order.created", {"id": key}),
        ("order.updated", {"id": key, "changed": ["status"]}),
        ("order.deleted", {"id": key}),
    ]


@registered(Order)
def test_a_new_child_of_an_old_parent_creates_no_parent():
    order = saved(status="paid")

    SpecialOrder(order_ptr=order, status="new").save()

    assert told() == [("order.updated", {"id": order.pk, "changed": ["status"]})]


def test_parent_and_child_are_told_each_where_both_are_registered():
    with registered(Order), registered(SpecialOrder):
        special = SpecialOrder.objects.create()
        special.status = "paid"
        special.save()
        special.delete()

    assert sorted(event_type for event_type, _ in told()) == [
        "order.created",
        "order.deleted",
        "order.updated",
        "specialorder.created",
        "specialorder.deleted",
        "specialorder.updated",
    ]

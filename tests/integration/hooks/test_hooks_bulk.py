"""Model hooks: writes that send no signals."""

from __future__ import annotations

import pytest
from django.core.exceptions import FieldDoesNotExist
from django.db import models, transaction

from django_webhooks import hooks, process_state
from django_webhooks.exceptions import PayloadError
from django_webhooks.hooks import muted
from django_webhooks.models import Event, Subscription
from tests.testapp.hooks import listen, registered, told
from tests.testapp.models import Order, Shop, SpecialOrder, Tag

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _somebody_listens():
    listen()


def saved(count=2, **fields):
    """Create orders that nothing is told of."""
    with muted():
        return [Order.objects.create(number=f"A{number}", **fields) for number in range(count)]


def told_numbers():
    """Return what was told, as pairs of the event type and the order's number."""
    return sorted((event_type, data["number"]) for event_type, data in told())


@registered(Order, fields=["number", "status"])
def test_changes_are_told_by_hand_of_a_query_set_or_a_list():
    orders = saved()

    hooks.created(Order.objects.all())
    hooks.updated(orders[:1], changed=["status", "shop_id"])
    hooks.deleted(orders[1:])

    assert told_numbers() == [
        ("order.created", "A0"),
        ("order.created", "A1"),
        ("order.deleted", "A1"),
        ("order.updated", "A0"),
    ]
    assert Event.objects.get(type="order.updated").data["changed"] == ["shop", "status"]


@registered(Order, fields=["number"], watch=["status"])
def test_what_is_not_watched_is_not_told_by_hand_either():
    hooks.updated(saved(), changed=["total"])
    hooks.updated(saved(), changed=[])

    assert told() == []


@registered(Order)
def test_a_field_that_does_not_exist_cannot_have_changed():
    with pytest.raises(ValueError, match="Order has no field 'statsu'"):
        hooks.updated(saved(), changed=["statsu"])


def test_a_model_that_is_not_registered_cannot_be_told_by_hand():
    with pytest.raises(LookupError, match="Register Tag for webhooks first"):
        hooks.created([Tag(name="new")])


@registered(Order)
def test_an_object_without_a_key_cannot_be_told():
    with pytest.raises(ValueError, match="no primary key"):
        hooks.created([Order()])


@registered(Order, fields=["number"], condition=lambda self, order, action: order.number == "A1")
def test_the_condition_decides_in_bulk_as_well():
    hooks.created(saved())

    assert told_numbers() == [("order.created", "A1")]


@registered(Order, owner=lambda self, order: order.shop)
def test_owners_are_told_in_bulk_as_well():
    shop = Shop.objects.create()
    listen(owner=shop)

    hooks.created(saved(shop=shop))

    assert [event.owner for event in Event.objects.all()] == [shop, shop]


def test_the_number_of_queries_does_not_depend_on_the_number_of_objects(
    django_assert_num_queries,
):
    with registered(Order):
        few, many = saved(3), saved(40)
        # What is told by hand is read again: memory may say something else.
        hooks.created(saved(1))
        with django_assert_num_queries(2):
            hooks.created(few)
        with django_assert_num_queries(2):
            hooks.created(many)
        # What is told the first time is remembered: that somebody listens.
        Order.objects.filter(pk=few[0].pk).update(status="packed")
        with django_assert_num_queries(6):
            Order.objects.filter(pk__in=[one.pk for one in few]).update(status="paid")
        with django_assert_num_queries(6):
            Order.objects.filter(status="new").update(status="paid")


@registered(Order, fields=["number"])
def test_bulk_create_tells_of_each():
    Order.objects.bulk_create([Order(number="A0"), Order(number="A1")])

    assert told_numbers() == [("order.created", "A0"), ("order.created", "A1")]


@registered(Order)
@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        pytest.param((), {"ignore_conflicts": True}, id="by name"),
        pytest.param((None, True), {}, id="by position"),
    ],
)
def test_bulk_create_that_ignores_conflicts_tells_nothing(args, kwargs):
    Order.objects.bulk_create([Order()], *args, **kwargs)

    assert told() == []


@registered(Order, payload=lambda self, order: 1 // 0)
def test_whether_anybody_listens_is_asked_once_for_all(django_assert_num_queries):
    made = saved(5)
    Subscription.objects.all().delete()
    process_state.forget()

    with django_assert_num_queries(1):
        hooks.created(made)


@registered(Order)
def test_a_muted_block_tells_nothing_by_hand():
    with muted():
        hooks.created(saved())

    assert told() == []


@registered(Order, payload=lambda self, order: {"bad": object()})
def test_a_bulk_write_that_cannot_be_told_is_rolled_back_alone():
    with pytest.raises(PayloadError):
        Order.objects.bulk_create([Order()])

    assert not Order.objects.exists()


@registered(Order, fields=["number", "stock"])
def test_bulk_update_tells_what_changed_of_each_as_stored():
    changed, unchanged = saved()
    changed.stock = models.F("stock") - 1

    count = Order.objects.bulk_update([changed, unchanged], ["stock", "status"])

    assert count == 2
    assert told() == [("order.updated", {"number": "A0", "stock": 9, "changed": ["stock"]})]


@registered(Order, fields=["number", "status"])
def test_update_tells_of_the_rows_that_matched_before_and_changed():
    saved(status="new")
    saved(1, status="paid")

    count = Order.objects.exclude(number="A1").update(status="paid", total=0)
    Order.objects.filter(status="gone").update(status="new")

    assert count == 2
    assert told() == [("order.updated", {"number": "A0", "status": "paid", "changed": ["status"]})]


@registered(Order)
def test_an_update_names_the_foreign_key_that_it_sets():
    saved(1)

    Order.objects.update(shop=Shop.objects.create())

    assert [data["changed"] for _, data in told()] == [["shop"]]


@registered(Order, payload=lambda self, order: {"shop": order.shop.name})
def test_update_keeps_related_objects_at_hand(django_assert_max_num_queries):
    saved(20, shop=Shop.objects.create(name="corner"))

    # One more where it is not known yet whether anybody listens.
    with django_assert_max_num_queries(10):
        Order.objects.select_related("shop").prefetch_related("tags").update(status="paid")

    assert told()[0][1]["shop"] == "corner"


@registered(Order)
def test_update_fails_as_without_hooks():
    with pytest.raises(TypeError, match="slice"):
        Order.objects.all()[:1].update(status="paid")
    with pytest.raises(FieldDoesNotExist):
        Order.objects.update(statsu="paid")


def test_a_query_set_of_a_model_that_is_not_registered_works_as_ever():
    Order.objects.bulk_create([Order()])
    Order.objects.update(status="paid")

    assert told() == []


def test_a_parent_is_told_of_its_part_of_a_childs_update():
    with muted():
        SpecialOrder.objects.create()
    with registered(Order), registered(SpecialOrder):
        hooks.updated(SpecialOrder.objects.all(), changed=["wish"])
        hooks.updated(SpecialOrder.objects.all(), changed=["status"])

    assert sorted(event_type for event_type, _ in told()) == [
        "order.updated",
        "specialorder.updated",
        "specialorder.updated",
    ]


@registered(Order, fields=["number"])
def test_delete_tells_of_each_once():
    saved()

    Order.objects.all().delete()

    assert told_numbers() == [("order.deleted", "A0"), ("order.deleted", "A1")]


@registered(Order, fields=["number"], coalesce=True)
def test_bulk_writes_and_saves_of_one_transaction_are_told_as_one():
    with transaction.atomic():
        [kept, gone] = Order.objects.bulk_create([Order(number="A0"), Order(number="A1")])
        Order.objects.filter(number="A0").update(number="B0")
        kept.refresh_from_db()
        kept.status = "paid"
        kept.save()
        gone.delete()

    assert told_numbers() == [("order.created", "B0")]


@registered(
    Order,
    fields=["number"],
    coalesce=True,
    condition=lambda self, order, action: order.status == "paid",
)
def test_an_object_that_was_created_in_bulk_and_not_told_is_told_as_created():
    with transaction.atomic():
        Order.objects.bulk_create([Order(number="A0")])
        Order.objects.update(status="paid")

    assert told_numbers() == [("order.created", "A0")]


@registered(Order, coalesce=True)
def test_an_update_by_hand_that_changes_nothing_is_not_remembered():
    with transaction.atomic():
        hooks.updated(saved(), changed=[])

    assert told() == []

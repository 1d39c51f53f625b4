"""Model hooks: what of a save counts as a change, and what it costs."""

from __future__ import annotations

from decimal import Decimal

import pytest
from django.db import models, transaction
from django.db.models.signals import post_save

from django_webhooks import process_state
from django_webhooks.hooks import muted
from django_webhooks.models import Subscription
from django_webhooks.sending.recording import hearing
from tests.testapp.hooks import listen, registered, saved, told, told_changes
from tests.testapp.models import (
    Country,
    Order,
    Shop,
)

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _somebody_listens():
    listen()


@registered(Order, fields=["id", "shop", "status", "total"])
def test_a_created_object_is_told_with_its_fields():
    order = Order.objects.create(shop=saved(Shop), total="4.5")

    assert told() == [
        (
            "order.created",
            {"id": order.pk, "shop": order.shop_id, "status": "new", "total": "4.50"},
        )
    ]


@registered(Order, fields=["id", "status"])
def test_an_update_names_the_fields_that_really_changed_in_order():
    order = saved()

    order.status, order.number, order.total = "paid", "A1", 0
    order.save()

    assert told() == [
        ("order.updated", {"id": order.pk, "status": "paid", "changed": ["number", "status"]})
    ]


@registered(Order, fields=["id", "status"])
def test_a_deleted_object_is_told_with_its_last_state_and_its_key():
    order = saved(status="paid")
    key = order.pk

    order.delete()

    assert told() == [("order.deleted", {"id": key, "status": "paid"})]


@registered(Order)
def test_the_deletes_of_a_query_set_and_of_a_cascade_are_told_once_each():
    shop = saved(Shop)
    cascaded, queried = saved(shop=shop).pk, saved().pk

    shop.delete()
    Order.objects.all().delete()

    assert told() == [("order.deleted", {"id": cascaded}), ("order.deleted", {"id": queried})]


@registered(Order)
@pytest.mark.parametrize(
    "value",
    [
        pytest.param({"total": "1.5"}, id="a decimal as text"),
        pytest.param({"total": 1.5}, id="a decimal as float"),
        pytest.param({"total": Decimal("1.500")}, id="more places"),
        pytest.param({"total": Decimal("1.501")}, id="rounded when stored"),
        pytest.param({"stock": "10"}, id="a number as text"),
        pytest.param({"notes": {}}, id="an equal dictionary"),
    ],
)
def test_an_update_that_changes_nothing_sends_nothing(value):
    order = saved(total="1.50")

    for name, same in value.items():
        setattr(order, name, same)
    order.save()

    assert told() == []


@registered(Order)
def test_a_value_that_is_no_value_of_its_field_counts_as_changed_and_fails_as_without_hooks():
    order = saved()
    order.stock = "many"

    with pytest.raises(ValueError, match="many"), transaction.atomic():
        order.save()

    assert told() == []


@registered(Order)
def test_only_the_fields_that_are_saved_count():
    order = saved()
    order.status, order.number = "paid", "A1"

    order.save(update_fields=["number"])

    assert told_changes() == [["number"]]


@registered(Order)
def test_update_fields_may_name_the_column_of_a_foreign_key():
    order = saved()
    order.shop = saved(Shop)

    order.save(update_fields=["shop_id"])

    assert told_changes() == [["shop"]]


@registered(Order)
def test_saving_no_fields_tells_nothing():
    saved().save(update_fields=[])

    assert told() == []


@registered(Order, watch=["status", "shop"])
def test_a_save_of_nothing_that_is_watched_reads_no_row(django_assert_num_queries):
    order = saved()
    order.status, order.stock = "paid", 9

    with django_assert_num_queries(1):
        order.save(update_fields=["stock"])

    assert told() == []


@registered(Order, watch=["status", "shop"])
def test_only_watched_fields_count():
    order = saved()

    order.number = "A1"
    order.save()
    order.status, order.number = "paid", "A2"
    order.save()

    assert told_changes() == [["status"]]


@registered(Order)
def test_deferred_fields_do_not_count_and_stay_deferred():
    order = Order.objects.only("status").get(pk=saved().pk)
    order.status = "paid"

    order.save()

    assert told_changes() == [["status"]]
    assert "number" in order.get_deferred_fields()


@registered(Order)
def test_what_changed_is_compared_with_the_row_and_not_with_what_was_loaded():
    stale = saved()
    with muted():
        Order.objects.update(status="paid")

    stale.save()

    assert told_changes() == [["status"]]


@registered(Order)
def test_a_refreshed_object_begins_anew():
    order = saved()
    order.status = "paid"
    order.refresh_from_db()

    order.save()

    assert told() == []


@registered(Country, fields=["code", "number"])
def test_saving_a_new_object_with_the_key_of_an_old_row_is_an_update():
    saved(Country, code="fr", number=33)

    Country(code="fr", number=34).save()
    Country(code="de", number=49).save()

    assert told() == [
        ("country.updated", {"code": "fr", "number": 34, "changed": ["number"]}),
        ("country.created", {"code": "de", "number": 49}),
    ]


@registered(Country, fields=["code"])
def test_what_changed_of_a_row_that_appears_during_the_save_is_not_known():
    country = Country(code="fr", number=33)

    def appear(**kwargs):
        Country.objects.bulk_create([Country(code="fr", number=34)])

    models.signals.pre_save.connect(appear, sender=Country)
    try:
        country.save()
    finally:
        models.signals.pre_save.disconnect(appear, sender=Country)

    assert told_changes() == [["code", "number"]]


@registered(Order)
def test_a_receiver_that_saves_the_object_again_does_not_confuse_what_changed():
    order = saved()

    def count(instance, **kwargs):
        if instance.stock == 10:
            instance.stock = 9
            instance.save(update_fields=["stock"])

    post_save.connect(count, sender=Order)
    # Receivers are called in the order in which they were connected: be before the hook's.
    post_save.receivers.insert(0, post_save.receivers.pop())
    post_save.sender_receivers_cache.clear()
    try:
        order.status = "paid"
        order.save()
    finally:
        post_save.disconnect(count, sender=Order)

    assert told_changes() == [["status"], ["stock"]]


@registered(Order)
def test_nothing_is_left_on_the_object():
    order = Order.objects.create()
    order.tags.create(name="new")
    order.tags.clear()
    order.save()

    assert not [name for name in vars(order) if name.startswith("_webhooks")]


def test_a_model_that_nobody_listens_to_costs_one_query_and_no_payload(
    django_assert_num_queries,
):
    def refuse(hook, instance):
        raise AssertionError

    order = saved()
    Subscription.objects.all().delete()
    process_state.forget()
    with registered(Order, payload=refuse):
        with django_assert_num_queries(2):
            order.save()
        with django_assert_num_queries(1):
            order.tags.all().exists()
        with django_assert_num_queries(2):
            Order.objects.update(status="paid")
        with django_assert_num_queries(2):
            Order.objects.create()


@registered(Order)
@pytest.mark.django_db(transaction=True)
def test_a_save_that_is_heard_costs_a_few_queries(django_assert_num_queries):
    order = saved()
    process_state.forget()
    order.status = "paid"

    # Whether anybody listens, and whether its owner does, which are both remembered for a while;
    # the row before, the save, and the event.
    with django_assert_num_queries(2 + 5), transaction.atomic():
        order.save()
    order.status = "new"
    with django_assert_num_queries(2 + 3), transaction.atomic():
        order.save()


@registered(Order)
def test_who_begins_to_listen_during_a_save_does_not_hear_of_unknown_changes(monkeypatch):
    order = saved()
    order.status = "paid"
    heard = iter([set(), {"order.updated"}])
    monkeypatch.setattr(hearing, "of_types", lambda event_types, *, using: next(heard))

    order.save()

    assert told() == []

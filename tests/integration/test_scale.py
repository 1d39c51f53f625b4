"""Thousands of subscriptions: what is asked at every event and every sweep reads few of them."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_webhooks.migrations import _record
from django_webhooks.models import Endpoint, EventTypePattern, Health, Subscription
from django_webhooks.models.owner import OwnerKey
from django_webhooks.policies import matching
from django_webhooks.sending import listeners, upkeep
from tests import factories

pytestmark = pytest.mark.django_db
reads_plans = pytest.mark.skipif(
    connection.vendor != "postgresql", reason="reads PostgreSQL's query plans"
)

COUNT = 2000
OWNER = OwnerKey("shop.shop", "7")
LONG_AGO = timezone.now() - timedelta(days=60)


@pytest.fixture
def crowd(new_files):
    """Make thousands of owners, each with a subscription to the same event types."""
    rows = Subscription.objects.bulk_create(
        Subscription(
            name=f"Shop {number}",
            owner_type=OWNER.type,
            owner_id=str(number),
            flow_changed_at=LONG_AGO,
        )
        for number in range(COUNT)
    )
    EventTypePattern.objects.bulk_create(
        EventTypePattern(subscription=one, pattern="order.*") for one in rows
    )
    doors = Endpoint.objects.bulk_create(
        Endpoint(subscription=one, url="http://127.0.0.1:9/hook") for one in rows
    )
    Health.objects.bulk_create(
        Health(endpoint=one, subscription=one.subscription, is_active=True, flowed_at=LONG_AGO)
        for one in doors
    )
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")
    return rows


def plans_of(call):
    """Return what a call returns, and the plans of the queries that it asks."""
    with CaptureQueriesContext(connection) as queries:
        found = call()
    plans = []
    with connection.cursor() as cursor:
        for query in queries.captured_queries:
            if query["sql"].startswith("SELECT"):
                cursor.execute(f"EXPLAIN {query['sql']}")
                plans.append("\n".join(row[0] for row in cursor.fetchall()))
    return found, "\n".join(plans)


@reads_plans
def test_an_event_of_one_owner_is_heard_without_reading_the_others(crowd):
    found, plan = plans_of(lambda: listeners.find([("order.paid", OWNER)], using="default"))

    heard = [one for one in found if one.hears("order.paid", OWNER)]
    assert [one.subscription_id for one in heard] == [crowd[7].pk]
    assert [one.is_flowing for one in heard] == [True]
    # Beside it one of anybody's, which tells that the event type is not unheard of.
    assert len(found) <= 2
    assert "webhooks_sub_owner" in plan
    assert "Seq Scan on django_webhooks_subscription" not in plan
    assert "Seq Scan on django_webhooks_health" not in plan


@reads_plans
@pytest.mark.usefixtures("crowd")
def test_a_global_subscription_among_many_is_found_by_its_index():
    everything = factories.subscription(event_types=["*"], is_global=True)

    found, plan = plans_of(lambda: listeners.find([("order.paid", OWNER)], using="default"))

    heard = [one.subscription_id for one in found if one.hears("order.paid", OWNER)]
    assert everything.pk in heard
    assert len(heard) == 2
    assert "webhooks_sub_global" in plan


@pytest.mark.usefixtures("crowd")
def test_what_nobody_of_an_owner_hears_is_not_taken_for_unheard_of():
    stranger = OwnerKey(OWNER.type, "nobody")

    found = listeners.find([("order.paid", stranger)], using="default")

    assert not [one for one in found if one.hears("order.paid", stranger)]
    assert listeners.anybody("order.paid")


@reads_plans
def test_a_sweep_looks_at_those_alone_that_changed(crowd):
    _, released = plans_of(upkeep.release_forgotten)
    _, read = plans_of(upkeep.release_readable)

    assert "webhooks_sub_flow" in released
    assert "webhooks_health_flowed" in released
    assert "webhooks_sub_unreadable" in read
    for table in ("subscription", "health", "endpoint"):
        assert f"Seq Scan on django_webhooks_{table}" not in released + read


def test_what_was_held_is_released_whether_its_subscription_or_its_endpoint_changed(crowd):
    for one in crowd[:3]:
        factories.record(owner=one.owner_key)
    waiting = [one.deliveries.get() for one in crowd[:3]]
    for delivery in waiting:
        type(delivery).objects.filter(pk=delivery.pk).update(due_at=None)
    Subscription.objects.filter(pk=crowd[0].pk).update(flow_changed_at=timezone.now())
    Health.objects.filter(subscription=crowd[1]).update(flowed_at=timezone.now())

    released = upkeep.release_forgotten()

    assert released == 2
    assert [type(one).objects.get(pk=one.pk).due_at is None for one in waiting] == [
        False,
        False,
        True,
    ]


@reads_plans
@pytest.mark.usefixtures("crowd")
@pytest.mark.parametrize("owner", [OWNER, OwnerKey()])
def test_the_function_that_records_finds_who_listens_by_indexes(owner):
    """Its session plans it once, for whatever comes."""
    whose = _record._NOBODYS
    if owner != OwnerKey():
        whose = f"{_record._OWNERS} OR subscription.is_global AND {_record._NOBODYS}"
    text = _record._LISTENERS.format(whose=whose).replace("INTO subscriptions, flowing, lanes", "")
    names = ("patterns", "its_owner_type", "its_owner_id", "its_ordering_key")
    for number, name in enumerate(names, 1):
        text = re.sub(rf"\b{name}\b", f"${number}", text)
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL plan_cache_mode = force_generic_plan")
        cursor.execute(f"PREPARE listening (varchar[], varchar, varchar, varchar) AS {text}")
        try:
            cursor.execute(
                "EXPLAIN EXECUTE listening (%s, %s, %s, '')",
                [matching.candidates("order.paid"), owner.type, owner.id],
            )
            plan = "\n".join(row[0] for row in cursor.fetchall())
        finally:
            cursor.execute("DEALLOCATE listening")

    assert "Seq Scan" not in plan

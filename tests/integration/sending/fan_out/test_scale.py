"""Thousands of subscriptions: what is asked at every event and every sweep reads few of them."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from django_webhooks import times
from django_webhooks.models import Endpoint, EndpointHealth, Event, Subscription
from django_webhooks.models.event_type_pattern import EventTypePattern
from django_webhooks.models.owner import OwnerKey
from django_webhooks.sending import maintenance
from django_webhooks.sending.fan_out import listeners
from django_webhooks.sending.recording import hearing
from tests import factories

pytestmark = pytest.mark.django_db
reads_plans = pytest.mark.skipif(
    connection.vendor != "postgresql", reason="reads PostgreSQL's query plans"
)

COUNT = 2000
OWNER = OwnerKey("shop.shop", "7")
LONG_AGO = times.now() - timedelta(days=60)


@pytest.fixture
def crowd(new_files):
    """Make thousands of owners, each with a subscription to the same event types."""
    rows = Subscription.objects.bulk_create(
        Subscription(
            name=f"Shop {number}",
            owner_type=OWNER.type,
            owner_id=str(number),
            sending_changed_at=LONG_AGO,
        )
        for number in range(COUNT)
    )
    EventTypePattern.objects.bulk_create(
        EventTypePattern(subscription=one, pattern="order.*") for one in rows
    )
    candidates = Endpoint.objects.bulk_create(
        Endpoint(subscription=one, url="http://127.0.0.1:9/hook") for one in rows
    )
    EndpointHealth.objects.bulk_create(
        EndpointHealth(
            endpoint=one, subscription=one.subscription, is_active=True, fully_released_at=LONG_AGO
        )
        for one in candidates
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
    assert len(found) == 1
    assert "webhooks_sub_owner" in plan
    assert "Seq Scan on django_webhooks_subscription" not in plan
    assert "Seq Scan on django_webhooks_endpointhealth" not in plan


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

    assert not listeners.find([("order.paid", stranger)], using="default")
    assert hearing.of_types(["order.paid"], using="default")


@reads_plans
def test_a_sweep_looks_at_those_alone_that_changed(crowd):
    _, released = plans_of(maintenance.release_forgotten)
    _, read = plans_of(maintenance.release_readable)

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
    Subscription.objects.filter(pk=crowd[0].pk).update(sending_changed_at=times.now())
    EndpointHealth.objects.filter(subscription=crowd[1]).update(fully_released_at=times.now())

    released = maintenance.release_forgotten()

    assert released == 2
    assert [type(one).objects.get(pk=one.pk).due_at is None for one in waiting] == [
        False,
        False,
        True,
    ]


@reads_plans
@pytest.mark.usefixtures("crowd")
@pytest.mark.parametrize("owner", [OWNER, OwnerKey(), OwnerKey(OWNER.type, "nobody")], ids=str)
def test_whether_anybody_hears_an_event_is_found_by_indexes(owner):
    heard, plan = plans_of(lambda: hearing.of_owners([("order.paid", owner)], using="default"))

    assert bool(heard) is (owner == OWNER)
    assert "Seq Scan" not in plan
    types, plan = plans_of(lambda: hearing.of_types(["user.left"], using="default"))
    assert types == set()
    assert "Seq Scan" not in plan


@reads_plans
@pytest.mark.usefixtures("crowd")
def test_an_event_type_that_all_hear_is_found_in_the_first_row():
    types, plan = plans_of(lambda: hearing.of_types(["order.paid"], using="default"))

    assert types == {"order.paid"}
    assert float(re.search(r"\.\.([0-9.]+)", plan)[1]) < 1


@reads_plans
def test_events_that_wait_are_found_among_millions_by_a_small_index(new_files):
    done = (Event(type="order.paid", body=b"{}", fan_out=None) for _ in range(COUNT))
    Event.objects.bulk_create(done)
    Event.objects.bulk_create(Event(type="order.paid", body=b"{}") for _ in range(3))
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")

    waiting, plan = plans_of(lambda: list(Event.objects.waiting().order_by("pk")[:200]))

    assert len(waiting) == 3
    assert "webhooks_event_fan_out" in plan
    assert "Sort" not in plan
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_relation_size('webhooks_event_fan_out')")
        assert cursor.fetchone()[0] <= 2 * 8192

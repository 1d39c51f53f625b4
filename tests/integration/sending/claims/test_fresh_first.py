"""What is new goes before retries and replays, and neither shuts the other out."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection

from django_webhooks import replays
from django_webhooks.models import Delivery
from django_webhooks.sending import claims, maintenance, worker
from django_webhooks.sending.figures import statistics
from tests import factories
from tests.factories import Clock
from tests.receivers import receiving

pytestmark = pytest.mark.django_db
FRESH, AGAIN = Delivery.Priority.NEW, Delivery.Priority.RETRY


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture(autouse=True)
def _subscription(new_files):
    factories.subscription()


def record(clock, count, priority, *, minutes=1):
    made = [factories.record(data={"id": number})[0].pk for number in range(count)]
    for number, key in enumerate(made):
        due_at = clock() - timedelta(minutes=minutes, seconds=-number / 100)
        Delivery.objects.filter(pk=key).update(priority=priority, due_at=due_at)
    return made


def shares(lease):
    found = [one.priority for one in lease.deliveries]
    return found.count(FRESH), found.count(AGAIN)


@pytest.mark.parametrize(
    ("fresh", "again", "expected"),
    [
        (40, 40, (15, 5)),
        (40, 2, (18, 2)),
        (3, 40, (3, 17)),
        (0, 40, (0, 20)),
        (40, 0, (20, 0)),
        (15, 5, (15, 5)),
        (2, 3, (2, 3)),
    ],
)
def test_each_has_its_share_and_what_the_other_leaves(clock, fresh, again, expected):
    record(clock, again, AGAIN, minutes=60)
    record(clock, fresh, FRESH)

    lease = claims.take(now=clock(), limit=20, using="default")

    assert shares(lease) == expected


def test_the_longest_due_goes_first_in_each(clock):
    old = record(clock, 5, AGAIN, minutes=60)
    new = record(clock, 5, FRESH, minutes=10)
    record(clock, 5, AGAIN)
    record(clock, 15, FRESH)

    lease = claims.take(now=clock(), limit=4, using="default")

    assert {one.pk for one in lease.deliveries} == {*new[:3], old[0]}


def test_batches_of_one_are_shared_in_the_long_run(clock):
    record(clock, 60, AGAIN, minutes=60)
    record(clock, 60, FRESH)

    taken = [shares(claims.take(now=clock(), limit=1, using="default")) for _ in range(60)]

    # 45 are expected; all or none would be off by more than four standard deviations.
    assert 30 <= sum(fresh for fresh, _ in taken) <= 58


def test_what_failed_comes_again_behind_what_is_fresh(clock):
    with receiving(500) as receiver:
        Delivery.objects.all().delete()
        factories.subscription(url=receiver.url, event_types=["user.*"])
        [delivery] = factories.record("user.joined")

        worker.drain(clock=clock)

    delivery.refresh_from_db()
    assert (delivery.attempts_made, delivery.priority) == (1, AGAIN)


def test_a_replay_comes_behind_what_is_fresh(clock):
    [delivery] = factories.record()
    delivery.status, delivery.finished_at, delivery.due_at = "given_up", clock(), None
    delivery.save()

    [again] = replays.replay([delivery])

    assert again.priority == AGAIN


def test_what_is_held_in_an_outage_stays_fresh_and_the_oldest_goes_first(clock):
    made = record(clock, 30, FRESH)
    Delivery.objects.update(due_at=None)
    Delivery.objects.all().release()

    lease = claims.take(now=clock(), limit=10, using="default")

    assert {one.pk for one in lease.deliveries} == set(made[:10])


def test_counts_and_moments_are_those_of_both(clock):
    record(clock, 3, AGAIN, minutes=60)
    record(clock, 4, FRESH)

    found = statistics.backlog()

    assert maintenance.count_due(limit=100, now=clock()) == 7
    assert maintenance.count_due(limit=5, now=clock()) == 5
    assert (found.oldest_due - (clock() - timedelta(hours=1))).total_seconds() == 0


@pytest.mark.skipif(connection.vendor != "postgresql", reason="reads PostgreSQL's query plans")
def test_a_mountain_of_retries_is_not_looked_at_for_what_is_fresh(clock):
    [kept] = factories.record()
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO django_webhooks_delivery
                (id, event_id, subscription_id, replay, status, attempts_made, reason, due_at,
                 created_at, has_new_message_id, priority, partition, cancelled_by)
            SELECT gen_random_uuid(), event_id, NULL, 1, 'waiting', 1, '',
                   now() - interval '1 hour' + number * interval '1 second', now(), false, 1, '', ''
            FROM django_webhooks_delivery, generate_series(1, 100000) AS number
            """
        )
        cursor.execute("ANALYZE django_webhooks_delivery")

    plans = {
        priority: Delivery.objects.longest_due(clock(), priority)
        .values_list("pk")[:100]
        .select_for_update(skip_locked=True)
        .explain(analyze=True, buffers=True)
        for priority in Delivery.Priority.values
    }
    plans["any"] = Delivery.objects.due(clock()).values_list("pk")[:800].explain(analyze=True)

    assert all("webhooks_delivery_due" in plan for plan in plans.values())
    assert all("Seq Scan" not in plan for plan in plans.values())
    assert Delivery.objects.longest_due(clock(), FRESH).get() == kept

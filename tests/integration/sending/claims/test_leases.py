"""Leases: a delivery is in at most one worker's hands."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.db import connection

from django_webhooks.fields import uuid7
from django_webhooks.models import Delivery
from django_webhooks.sending import claims
from tests import factories
from tests.factories import Clock

pytestmark = pytest.mark.django_db


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def deliveries():
    factories.subscription()
    return [factories.record(data={"id": number})[0] for number in range(5)]


def take(clock, **options):
    options.setdefault("limit", 100)
    return claims.take(now=clock(), using="default", **options)


def test_what_is_due_is_leased_for_a_while(clock, deliveries):
    lease = take(clock)

    assert {one.pk for one in lease.deliveries} == {one.pk for one in deliveries}
    assert lease.until == clock() + timedelta(seconds=60)
    for one in Delivery.objects.all():
        assert (one.lease_token, one.due_at) == (lease.token, lease.until)


def test_what_is_leased_is_not_leased_again(clock, deliveries):
    take(clock)

    assert take(clock).deliveries == []


def test_what_a_dead_worker_held_is_leased_again(clock, deliveries):
    first = take(clock)
    clock.move(seconds=60)

    second = take(clock)

    assert len(second.deliveries) == 5
    assert second.token != first.token


def test_the_longest_due_comes_first(clock, deliveries):
    oldest = deliveries[3]
    Delivery.objects.filter(pk=oldest.pk).update(due_at=clock() - timedelta(hours=1))

    [taken] = take(clock, limit=1).deliveries

    assert taken.pk == oldest.pk


def test_ids_limit_what_is_taken(clock, deliveries):
    wanted = {deliveries[1].pk, deliveries[2].pk}

    assert {one.pk for one in take(clock, ids=wanted).deliveries} == wanted


def test_ids_that_do_not_exist_are_ignored(clock):
    assert take(clock, ids=[uuid7()]).deliveries == []


def test_one_that_is_named_is_left_to_who_has_it(clock, deliveries):
    first = take(clock, ids=[deliveries[0].pk])

    second = take(clock, ids=[deliveries[0].pk])

    assert [one.pk for one in first.deliveries] == [deliveries[0].pk]
    assert second.deliveries == []
    assert Delivery.objects.get(pk=deliveries[0].pk).lease_token == first.token


def values(row):
    return {one.attname: getattr(row, one.attname) for one in row._meta.concrete_fields}


@pytest.mark.parametrize("is_bound", [False, True], ids=["by the driver", "by the database"])
def test_one_that_is_named_is_returned_with_all_that_is_returned_of_many(
    clock, deliveries, django_assert_num_queries, monkeypatch, is_bound
):
    """Where the database binds parameters, a call has one statement: what belongs to it follows."""
    monkeypatch.setattr(connection.features, "uses_server_side_binding", is_bound, raising=False)
    many = take(clock).deliveries
    clock.move(seconds=60)

    [one] = take(clock, ids=[many[0].pk]).deliveries

    lease = {"lease_token", "due_at"}
    assert values(one) == {**values(many[0]), **{name: getattr(one, name) for name in lease}}
    assert one.lease_token != many[0].lease_token
    assert one.due_at == clock() + timedelta(seconds=60)
    with django_assert_num_queries(0):
        pairs = [(one.event, many[0].event), (one.subscription, many[0].subscription)]
        for name in ("endpoints", "signing_keys"):
            found = [list(getattr(each.subscription, name).all()) for each in (one, many[0])]
            assert len(found[0]) == 1
            pairs += zip(*found, strict=True)
        pairs += [tuple(each.subscription.endpoints.all()[0].health for each in (one, many[0]))]
        assert [values(left) for left, _ in pairs] == [values(right) for _, right in pairs]


def test_one_that_is_named_and_whose_subscription_is_gone_is_taken(clock, deliveries):
    Delivery.objects.filter(pk=deliveries[0].pk).update(subscription=None)

    [one] = take(clock, ids=[deliveries[0].pk]).deliveries

    assert one.subscription is None
    assert one.event.pk == deliveries[0].event_id


def test_one_that_is_named_but_held_is_left(clock, deliveries):
    Delivery.objects.filter(pk=deliveries[0].pk).update(due_at=None)

    assert take(clock, ids=[deliveries[0].pk]).deliveries == []
    assert Delivery.objects.get(pk=deliveries[0].pk).lease_token is None


def test_one_that_is_named_waits_for_its_turn(clock):
    factories.subscription(ordering="all")
    first, second = (factories.record(data={"id": number})[0] for number in range(2))

    taken = take(clock, ids=[second.pk])

    # Its turn is that of the first, which goes in its place.
    assert [one.pk for one in taken.deliveries] == [first.pk]


def test_subscriptions_can_be_passed_over(clock, deliveries):
    other = factories.subscription(event_types=["user.*"])
    [kept] = factories.record("user.joined")

    taken = take(clock, except_subscriptions=[deliveries[0].subscription_id]).deliveries

    assert [one.pk for one in taken] == [kept.pk]
    assert taken[0].subscription == other


def test_what_is_not_due_is_left(clock, deliveries):
    Delivery.objects.update(due_at=clock() + timedelta(seconds=1))

    assert take(clock).deliveries == []


def test_what_was_given_back_can_be_taken_at_once(clock, deliveries):
    lease = take(clock)

    assert claims.give_back(lease.deliveries, now=clock(), using="default") == 5
    assert len(take(clock).deliveries) == 5


def test_what_was_given_back_goes_before_what_is_younger(clock, deliveries):
    Delivery.objects.update(created_at=clock())
    lease = claims.take(now=clock(), limit=2, using="default")
    clock.move(seconds=1)
    Delivery.objects.filter(lease_token=None).update(due_at=clock(), created_at=clock())
    clock.move(seconds=1)

    claims.give_back(lease.deliveries, now=clock(), using="default")

    again = claims.take(now=clock(), limit=2, using="default")
    assert {one.pk for one in again.deliveries} == {one.pk for one in lease.deliveries}


def test_what_was_recorded_by_a_clock_ahead_is_due_at_once_when_given_back(clock, deliveries):
    Delivery.objects.update(created_at=clock() + timedelta(minutes=5))
    lease = take(clock)

    claims.give_back(lease.deliveries, now=clock(), using="default")

    assert len(take(clock).deliveries) == 5


def test_only_the_holder_gives_back(clock, deliveries):
    lost = take(clock)
    clock.move(seconds=61)
    take(clock)

    assert claims.give_back(lost.deliveries, now=clock(), using="default") == 0
    assert claims.hold(lost.deliveries, using="default") == 0


def test_a_lease_costs_the_same_for_one_and_for_many(clock, django_assert_max_num_queries):
    factories.subscription()
    for number in range(20):
        factories.record(data={"id": number})

    with django_assert_max_num_queries(9):
        assert len(take(clock).deliveries) == 20


@pytest.mark.django_db(transaction=True)
def test_workers_that_look_at_once_share_the_work():
    factories.subscription()
    for number in range(60):
        factories.record(data={"id": number})
    clock, ready, taken = Clock(), threading.Barrier(4), []

    def run():
        try:
            ready.wait(60)
            while found := take(clock, limit=7).deliveries:
                taken.extend(one.pk for one in found)
        finally:
            connection.close()

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert len(taken) == 60
    assert len(set(taken)) == 60


@pytest.mark.django_db
@pytest.mark.skipif(connection.vendor != "postgresql", reason="reads PostgreSQL's query plans")
@pytest.mark.usefixtures("new_files")
def test_finding_due_work_uses_its_index_whatever_is_finished(clock):
    factories.subscription()
    [kept] = factories.record()
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO django_webhooks_delivery
                (id, event_id, subscription_id, replay, status, attempts_made, reason,
                 created_at, finished_at, has_new_message_id, priority, partition, cancelled_by)
            SELECT gen_random_uuid(), event_id, subscription_id, number, 'succeeded', 1, '',
                   now(), now(), false, 0, '', ''
            FROM django_webhooks_delivery, generate_series(1, 32000) AS number
            """
        )
        for _ in range(6):
            cursor.execute(
                """
                INSERT INTO django_webhooks_delivery
                    (id, event_id, subscription_id, replay, status, attempts_made, reason,
                     created_at, finished_at, has_new_message_id, priority, partition,
                     cancelled_by)
                SELECT gen_random_uuid(), event_id, NULL, replay, 'succeeded', 1, '', now(), now(),
                       false, 0, '', ''
                FROM django_webhooks_delivery WHERE status = 'succeeded' LIMIT 32000
                """
            )
        cursor.execute("ANALYZE django_webhooks_delivery")
    assert Delivery.objects.succeeded().count() >= 200_000
    due = [
        Delivery.objects.longest_due(clock(), priority).values_list("pk")[:100]
        for priority in Delivery.Priority.values
    ]

    plans = [one.select_for_update(skip_locked=True).explain() for one in due]
    plans.append(Delivery.objects.due(clock()).values_list("pk")[:1].explain())

    assert all("webhooks_delivery_due" in plan for plan in plans)
    assert [one.pk for one in take(clock).deliveries] == [kept.pk]

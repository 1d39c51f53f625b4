"""Order while several workers, and those who record events, are at it at once."""

from __future__ import annotations

import random
import threading
import time
from collections import defaultdict
from dataclasses import replace

import pytest
from django.db import connection, connections, transaction

from django_webhooks.fields import uuid7
from django_webhooks.models import Delivery, Endpoint, EndpointHealth
from django_webhooks.policies import outcome
from django_webhooks.policies.retry import RetryPolicy
from django_webhooks.sending import claims
from django_webhooks.sending import results as recorder
from django_webhooks.sending.attempts import Job, Result
from django_webhooks.sending.database import DatabaseClock
from django_webhooks.sending.http import Answer
from tests import factories

pytestmark = pytest.mark.django_db(transaction=True)

WORKERS, WRITERS = 4, 3
EVENTS, KEYS = 25, 5


class Crowd:
    """Threads with connections of their own, and what any of them ran into."""

    def __init__(self):
        self.errors, self._threads = [], []

    def start(self, work, *arguments):
        def run():
            try:
                work(*arguments)
            except BaseException as error:
                self.errors.append(error)
            finally:
                connections.close_all()

        thread = threading.Thread(target=run, daemon=True)
        self._threads.append(thread)
        thread.start()

    def join(self):
        for thread in self._threads:
            thread.join(90)
        assert not any(thread.is_alive() for thread in self._threads)
        if self.errors:
            raise self.errors[0]


class Workers:
    """Lease, wait a little instead of sending, and record; note what overlaps."""

    def __init__(self, subscription):
        self.subscription, self.endpoint = subscription, Endpoint.objects.get()
        self.under_way, self.overlaps = defaultdict(set), []
        self.order = defaultdict(list)
        self.lock = threading.Lock()
        self.ends = time.monotonic() + 60

    def run(self, seed, is_over):
        chance, clock = random.Random(seed), DatabaseClock(using="default")
        while time.monotonic() < self.ends and not is_over():
            lease = claims.take(now=clock(), limit=8, using="default")
            with self.lock:
                for one in lease.deliveries:
                    if self.under_way[one.partition]:
                        self.overlaps.append(one.pk)
                    self.under_way[one.partition].add(one.pk)
            if not lease.deliveries:
                time.sleep(0.005)
                continue
            time.sleep(chance.random() / 200)
            results = [
                self.result(one, clock(), status=chance.choice([204, 204, 204, 500]))
                for one in lease.deliveries
            ]
            chance.shuffle(results)
            half = len(results) // 2
            for group in (results[:half], results[half:]):
                self.let_go(group)
                if group:
                    recorder.record(group, now=clock(), using="default")

    def let_go(self, group):
        # Before it is committed: the next one may begin at that moment.
        with self.lock:
            for one in group:
                delivery = one.job.delivery
                self.under_way[delivery.partition].discard(delivery.pk)
                if one.outcome.succeeded:
                    self.order[delivery.partition].append(delivery.pk)

    def result(self, delivery, now, *, status=204):
        job = Job(
            delivery=delivery,
            subscription=self.subscription,
            endpoint=self.endpoint,
            policy=RetryPolicy(attempts=1000, base=0.01, factor=1.0, cap=0.01),
        )
        return Result(
            job=job,
            started_at=now,
            duration=0.001,
            response=Answer(status=status, headers={}, body=b""),
            outcome=outcome.of_answer(status, {}, now=now, client_errors_final=False),
        )


@pytest.fixture
def subscription():
    # It stays healthy, whatever is answered.
    return factories.subscription(ordering="key", health_fall=30_000, health_window_attempts=30_000)


def test_one_of_a_partition_at_a_time_and_in_order(subscription):
    workers, crowd, done = Workers(subscription), Crowd(), threading.Event()

    def write(seed):
        chance = random.Random(seed)
        for _ in range(EVENTS):
            # A partition of its own for each writer: ids of one partition become visible in order.
            factories.record(ordering_key=f"{seed}-{chance.randrange(KEYS)}")
            time.sleep(chance.random() / 500)

    writers = Crowd()
    for seed in range(WRITERS):
        writers.start(write, seed)
    for seed in range(WORKERS):
        crowd.start(
            workers.run, seed, lambda: done.is_set() and not Delivery.objects.waiting().exists()
        )
    writers.join()
    done.set()
    crowd.join()

    assert workers.overlaps == []
    assert Delivery.objects.succeeded().count() == WRITERS * EVENTS
    for order in workers.order.values():
        assert order == sorted(order)


def test_nothing_overlaps_or_is_stuck_where_commits_come_late_and_others_cancel(subscription):
    if connection.vendor == "sqlite":
        pytest.skip("One transaction at a time writes on SQLite.")
    workers, crowd, done = Workers(subscription), Crowd(), threading.Event()

    def write(seed):
        chance = random.Random(seed)
        for _ in range(EVENTS):
            with transaction.atomic():
                factories.emit(ordering_key=str(chance.randrange(2)))
                time.sleep(chance.random() / 100)
            # A worker's work, never the caller's transaction: its lock is held for milliseconds.
            factories.fan_out()

    def disturb(seed):
        chance = random.Random(seed)
        while not done.is_set():
            waiting = list(Delivery.objects.waiting().values_list("pk", flat=True)[:20])
            if waiting and chance.random() < 0.2:
                held = Delivery.objects.filter(pk=chance.choice(waiting), lease_token=None)
                held.cancel()
            time.sleep(0.01)

    writers = Crowd()
    for seed in range(WRITERS + 3):
        writers.start(write, seed)
    for seed in range(WORKERS):
        crowd.start(
            workers.run, seed, lambda: done.is_set() and not Delivery.objects.waiting().exists()
        )
    crowd.start(disturb, 99)
    writers.join()
    done.set()
    crowd.join()

    assert workers.overlaps == []
    assert not Delivery.objects.waiting().exists()


def test_the_end_of_a_head_waits_for_who_is_holding_the_others(subscription):
    """Two decide about one partition at once: that one is held, and that its turn has come."""
    if connection.vendor == "sqlite":
        pytest.skip("One transaction at a time writes on SQLite.")
    clock = DatabaseClock(using="default")
    first, second = (factories.record(ordering_key="a")[0] for _ in range(2))
    [leased] = claims.take(now=clock(), limit=1, using="default").deliveries
    assert leased.pk == first.pk
    result = Workers(subscription).result(leased, clock())
    # Nothing else of the result needs the lock.
    EndpointHealth.objects.update(succeeded_at=clock())
    crowd, passed = Crowd(), threading.Event()

    def end():
        recorder.record([result], now=clock(), using="default")
        passed.set()

    with transaction.atomic():
        Endpoint.objects.lock_health([subscription.pk])
        crowd.start(end)
        assert not passed.wait(0.5)
        # What leases.take does when it has read that the first is under way.
        Delivery.objects.filter(pk=second.pk).update(due_at=None)
    crowd.join()

    assert Delivery.objects.get(pk=second.pk).due_at is not None


def test_what_is_inserted_while_the_head_ends_is_found(subscription):
    if connection.vendor == "sqlite":
        pytest.skip("One transaction at a time writes on SQLite.")
    clock = DatabaseClock(using="default")
    early = uuid7()
    factories.record(ordering_key="a")
    [leased] = claims.take(now=clock(), limit=1, using="default").deliveries
    result = Workers(subscription).result(leased, clock())
    crowd, inserted, ended = Crowd(), threading.Event(), threading.Event()

    def insert():
        with transaction.atomic():
            factories.event(pk=early)
            Delivery.objects.create(
                id=early,
                event_id=early,
                subscription=subscription,
                partition=leased.partition,
                due_at=clock(),
            )
            inserted.set()
            assert ended.wait(60)

    crowd.start(insert)
    assert inserted.wait(60)
    recorder.record([result], now=clock(), using="default")
    ended.set()
    crowd.join()

    [found] = claims.take(now=clock(), limit=1, using="default").deliveries
    assert found.pk == early


def test_one_that_became_visible_late_goes_once_the_one_under_way_failed(subscription):
    clock = DatabaseClock(using="default")
    early = uuid7()
    factories.record(ordering_key="a")
    [leased] = claims.take(now=clock(), limit=1, using="default").deliveries
    factories.event(pk=early)
    Delivery.objects.create(
        id=early,
        event_id=early,
        subscription=subscription,
        partition=leased.partition,
        due_at=clock(),
    )
    assert claims.take(now=clock(), limit=1, using="default").deliveries == []
    failed = Workers(subscription).result(leased, clock(), status=500)
    failed = replace(failed, job=replace(failed.job, policy=RetryPolicy(base=100.0)))

    recorded = recorder.record([failed], now=clock(), using="default")

    assert recorded.released == 1
    [found] = claims.take(now=clock(), limit=1, using="default").deliveries
    assert found.pk == early

"""Order against a model: whatever happens in whatever sequence, a partition is a queue."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

import pytest
from django.db import transaction
from hypothesis import HealthCheck, settings
from hypothesis import strategies as some
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from django_webhooks import replays, times
from django_webhooks.fields import uuid7
from django_webhooks.models import Delivery, Endpoint, EndpointHealth, Subscription
from django_webhooks.policies import outcome
from django_webhooks.policies.retry import RetryPolicy
from django_webhooks.sending import claims, results
from django_webhooks.sending.attempts import Job, Result
from django_webhooks.sending.http import Answer
from tests import factories

pytestmark = pytest.mark.django_db
LEASE = 60.0


class Partitions(RuleBasedStateMachine):
    """Deliveries of one subscription, and what the model says of each partition."""

    def __init__(self, ordering):
        super().__init__()
        self.ordering = ordering

    @initialize()
    def begin(self):
        # Rolled back at the end, as a test is.
        self.atomic = transaction.atomic()
        self.atomic.__enter__()
        self.now = times.now() + timedelta(minutes=1)
        self.subscription = factories.subscription(ordering=self.ordering, retry_attempts=3)
        #: Ids that will become visible later, although they are early; with their keys.
        self.unseen = []
        #: Leased deliveries as their workers know them, with the end of their lease.
        self.hands = {}

    def teardown(self):
        if hasattr(self, "atomic"):
            transaction.set_rollback(True)
            self.atomic.__exit__(None, None, None)

    def partition_of(self, key):
        return "*" if self.subscription.ordering == "all" else key

    def record(self, key):
        return factories.record(ordering_key=key)[0]

    @rule(key=some.sampled_from("ab"), count=some.integers(1, 3))
    def insert(self, key, count):
        for _ in range(count):
            self.record(key)

    @rule(key=some.sampled_from("ab"))
    def take_an_id(self, key):
        self.unseen.append((uuid7(), key))

    @precondition(lambda self: self.unseen)
    @rule(which=some.randoms())
    def commit_late(self, which):
        early, key = self.unseen.pop(which.randrange(len(self.unseen)))
        listed = self.record(key)
        Delivery.objects.filter(pk=listed.pk).delete()
        listed.pk, listed.due_at = early, self.now
        listed.save(force_insert=True)

    @rule(limit=some.integers(1, 4))
    def take(self, limit):
        before = self.waiting()
        lease = claims.take(now=self.now, limit=limit, using="default")
        for one in lease.deliveries:
            partition = before[one.partition]
            assert one.pk == partition[0], "not the first of its partition"
            assert not [
                key
                for key, (other, until) in self.hands.items()
                if key != one.pk and other.partition == one.partition and until > self.now
            ], "two under way"
            self.hands[one.pk] = (one, lease.until)
        assert len({one.partition for one in lease.deliveries}) == len(lease.deliveries)

    @precondition(lambda self: self.hands)
    @rule(which=some.randoms(), status=some.sampled_from([204, 500, 410]))
    def answer(self, which, status):
        key = which.choice(sorted(self.hands))
        delivery, _ = self.hands.pop(key)
        endpoint = self.subscription.endpoints.get()
        response = Answer(status=status, headers={}, body=b"")
        job = Job(
            delivery=delivery,
            subscription=self.subscription,
            endpoint=endpoint,
            policy=RetryPolicy(attempts=3, base=5.0, cap=50.0),
        )
        told = outcome.of_answer(status, {}, now=self.now, client_errors_final=False)
        result = Result(job=job, started_at=self.now, duration=0.0, response=response, outcome=told)
        results.record([result], now=self.now, using="default")

    @precondition(lambda self: self.hands)
    @rule(which=some.randoms(), is_held=some.booleans())
    def let_go(self, which, is_held):
        delivery, _ = self.hands.pop(which.choice(sorted(self.hands)))
        if is_held:
            claims.hold([delivery], using="default")
        else:
            claims.give_back([delivery], now=self.now, using="default")

    @precondition(lambda self: self.hands)
    @rule(which=some.randoms())
    def kill_a_worker(self, which):
        self.hands.pop(which.choice(sorted(self.hands)))

    @rule(which=some.randoms())
    def cancel(self, which):
        waiting = sorted(Delivery.objects.waiting().values_list("pk", flat=True))
        if waiting:
            key = which.choice(waiting)
            Delivery.objects.filter(pk=key).cancel()
            self.hands.pop(key, None)

    @rule(which=some.randoms())
    def replay(self, which):
        over = sorted(Delivery.objects.exclude(status="waiting").values_list("pk", flat=True))
        if over:
            replays.replay([which.choice(over)])

    @rule()
    def try_now(self):
        Delivery.objects.all().try_now(self.now)

    @rule(limit=some.sampled_from([None, 1, 2]))
    def release(self, limit):
        self.subscription.deliveries.all().release(limit=limit)

    @rule()
    def pause(self):
        Subscription.objects.get().pause()

    @rule()
    def resume(self):
        Subscription.objects.get().resume()

    @rule(seconds=some.sampled_from([1, 30, 70, 600]))
    def wait(self, seconds):
        self.now += timedelta(seconds=seconds)
        self.hands = {
            key: (one, until) for key, (one, until) in self.hands.items() if until > self.now
        }

    def waiting(self):
        partitions = {}
        for one in Delivery.objects.waiting().order_by("pk"):
            partitions.setdefault(one.partition, []).append(one.pk)
        return partitions

    @invariant()
    def never_two_of_a_partition_are_under_way(self):
        if not hasattr(self, "now"):
            return
        leased = Delivery.objects.filter(lease_token__isnull=False, due_at__gt=self.now)
        partitions = list(leased.values_list("partition", flat=True))
        assert len(partitions) == len(set(partitions))

    @rule()
    def nothing_is_stuck(self):
        """Without a sweep for forgotten heads everything leaves once workers go on."""
        # A 410 disabled the endpoint; what came since is held until somebody enables it.
        Endpoint.objects.update(disabled_at=None)
        EndpointHealth.objects.update(
            state="healthy",
            failing_since=None,
            is_active=True,
            slow_start_released=None,
            failures=0,
        )
        Subscription.objects.get().resume()
        for _ in range(200):
            self.wait(600)
            self.take(4)
            for key in list(self.hands):
                delivery, _ = self.hands.pop(key)
                Delivery.objects.filter(pk=delivery.pk).cancel()
            if not Delivery.objects.waiting().exists():
                return
        raise AssertionError(f"stuck: {list(Delivery.objects.waiting().values())}")


@pytest.mark.usefixtures("new_files")
@pytest.mark.parametrize("ordering", ["key", "all"])
def test_a_partition_is_a_queue(ordering):
    run_state_machine_as_test(
        partial(Partitions, ordering),
        settings=settings(
            max_examples=30,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )

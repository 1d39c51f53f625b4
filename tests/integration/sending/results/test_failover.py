"""What becomes of deliveries when endpoints fail, and come back; time is passed in."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import pytest

from django_webhooks import signals
from django_webhooks.models import Attempt, Delivery, Endpoint, EndpointHealth, Switch
from django_webhooks.sending import health_checks, maintenance, worker
from tests import factories
from tests.factories import Clock
from tests.receivers import Answer, receiving
from tests.timing import until

pytestmark = pytest.mark.django_db
DEAD = "http://127.0.0.1:9/hook"


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def pair():
    """A primary, a backup, and a subscription to both."""
    with receiving() as primary, receiving() as backup:
        subscription = factories.subscription(url=primary.url)
        Endpoint.objects.create(subscription=subscription, url=backup.url, position=1)
        yield subscription, primary, backup


def record(count, *, since=0):
    made = []
    for number in range(since, since + count):
        made += factories.record(data={"id": number})
    return made


def drain(clock):
    return worker.drain(clock=clock)


def rise(clock, *, hold=31):
    """Let the hold pass, and probe as often as it takes."""
    clock.move(seconds=hold)
    for _ in range(2):
        clock.move(seconds=11)
        health_checks.check_all(clock=clock)


def active():
    return EndpointHealth.objects.get(is_active=True).endpoint


def causes():
    return list(Switch.objects.order_by("pk").values_list("cause", flat=True))


def outcomes():
    return Counter(Attempt.objects.values_list("outcome", flat=True))


class TestFailover:
    def test_three_failures_of_different_events_switch_to_the_backup(self, pair, clock):
        _, primary, backup = pair
        primary.answers = [Answer(503)]
        record(20)

        drain(clock)

        assert Delivery.objects.succeeded().count() == 20
        assert len(backup.requests) == 20
        # Three, and what was under way beside them.
        assert 3 <= len(primary.requests) <= 3 + 8
        assert active().url == backup.url
        switch = Switch.objects.get()
        assert (switch.cause, switch.reason) == ("failover", "http_503")
        assert (switch.from_host, switch.to_host) == (primary.url[7:-5], backup.url[7:-5])

    def test_what_failed_is_sent_to_the_backup_at_once(self, pair, clock):
        _, primary, backup = pair
        primary.answers = [Answer(500)]
        record(3)

        drain(clock)

        assert Delivery.objects.succeeded().count() == 3
        assert [one.headers["webhook-attempt"] for one in backup.requests] == ["2", "2", "2"]
        assert {one.headers["webhook-endpoint-role"] for one in backup.requests} == {"backup"}
        assert {one.headers["webhook-failover-reason"] for one in backup.requests} == {"http_500"}
        assert not any("webhook-endpoint-role" in one.headers for one in primary.requests)
        assert set(primary.ids) == set(backup.ids)

    def test_one_event_alone_does_not_switch_while_others_wait(self, pair, clock):
        _, primary, _ = pair
        primary.answers = [Answer(500)]
        [poison] = record(1)
        for _ in range(4):
            record(1)
            Delivery.objects.exclude(pk=poison.pk).update(due_at=clock() + timedelta(days=1))
            drain(clock)
            clock.move(hours=13)
            Delivery.objects.exclude(pk=poison.pk).update(due_at=clock() + timedelta(days=1))

        assert Attempt.objects.count() == 4
        assert EndpointHealth.objects.get(is_active=True).failures == 4
        assert causes() == []

    def test_one_event_alone_switches_where_nothing_else_waits(self, pair, clock):
        _, primary, backup = pair
        primary.answers = [Answer(500)]
        record(1)
        for _ in range(3):
            drain(clock)
            clock.move(minutes=1)
        drain(clock)

        assert causes() == ["failover"]
        assert len(backup.requests) == 1

    def test_load_does_not_switch(self, pair, clock):
        _, primary, backup = pair
        primary.answers = [Answer(429)]
        record(10)

        drain(clock)

        assert causes() == []
        assert backup.requests == []

    def test_an_endpoint_that_is_gone_is_replaced(self, pair, clock):
        _, primary, backup = pair
        primary.answers = [Answer(410)]
        record(1)
        drain(clock)
        record(1, since=1)
        clock.move(minutes=1)
        drain(clock)

        assert active().url == backup.url
        assert backup.requests[0].headers["webhook-failover-reason"] == "disabled"

    def test_signals_are_sent_when_all_is_committed(
        self, pair, clock, django_capture_on_commit_callbacks
    ):
        _, primary, _ = pair
        primary.answers = [Answer(500)]
        record(5)
        seen = []

        def fell(*, endpoint, reason, **kwargs):
            seen.append((endpoint.position, reason))

        def switched(*, subscription, switch, **kwargs):
            seen.append((switch.cause, switch.to_endpoint.position))

        signals.endpoint_unhealthy.connect(fell)
        signals.subscription_switched.connect(switched)
        try:
            with django_capture_on_commit_callbacks(execute=True):
                drain(clock)
        finally:
            signals.endpoint_unhealthy.disconnect(fell)
            signals.subscription_switched.disconnect(switched)

        assert seen == [(0, "http_500"), ("failover", 1)]


class TestFailback:
    def fall(self, primary, clock):
        primary.answers = [Answer(500)]
        record(5)
        drain(clock)
        primary.answers = [Answer(204)]
        primary.requests.clear()

    def test_after_hold_and_probes_one_delivery_tries_the_primary(self, pair, clock, settings):
        settings.WEBHOOKS_TIMEOUT_SECONDS = 50.0
        _, primary, backup = pair
        self.fall(primary, clock)
        rise(clock)
        assert EndpointHealth.objects.get(endpoint__position=0).state == "trial"
        assert active().url == backup.url
        # The others do not wait for the one that tries.
        primary.answers = [Answer(204, gate=lambda: until(lambda: len(backup.requests) == 9))]
        backup.requests.clear()
        record(10, since=5)
        clock.move(minutes=1)

        drain(clock)

        assert len(primary.requests) == 1
        assert len(backup.requests) == 9
        assert causes() == ["failover", "failback"]
        assert active().url == primary.url

    def test_probes_before_the_hold_is_over_try_nothing(self, pair, clock):
        _, primary, _ = pair
        self.fall(primary, clock)
        for _ in range(2):
            clock.move(seconds=11)
            health_checks.check_all(clock=clock)

        assert EndpointHealth.objects.get(endpoint__position=0).state == "unhealthy"

    def test_a_trial_that_fails_is_taken_to_the_backup_and_holds_longer(self, pair, clock):
        _, primary, _ = pair
        self.fall(primary, clock)
        rise(clock)
        primary.answers = [Answer(500)]
        record(1, since=5)
        clock.move(minutes=1)

        drain(clock)

        candidate = EndpointHealth.objects.get(endpoint__position=0)
        assert (candidate.state, candidate.hold_seconds) == ("unhealthy", 60.0)
        assert len(primary.requests) == 1
        assert Delivery.objects.waiting().count() == 0
        assert causes() == ["failover"]

    def test_a_trial_that_fails_leaves_alone_what_waits_at_the_backup(self, pair, clock):
        _, primary, backup = pair
        self.fall(primary, clock)
        backup.answers = [Answer(503, {"Retry-After": "3600"})]
        record(1, since=5)
        drain(clock)
        [waits] = Delivery.objects.waiting()
        backup.answers = [Answer(204)]
        backup.requests.clear()
        rise(clock)
        primary.answers = [Answer(500)]
        record(1, since=6)
        clock.move(minutes=1)

        drain(clock)

        # What was tried at the primary followed at once; the other was told to wait.
        assert len(primary.requests) == len(backup.requests) == 1
        assert Delivery.objects.waiting().get().due_at == waits.due_at

    def test_staying_is_left_by_hand(self, pair, clock):
        subscription, primary, backup = pair
        subscription.failback = "stay"
        subscription.save()
        self.fall(primary, clock)
        rise(clock)
        record(1, since=5)
        clock.move(minutes=1)
        drain(clock)
        assert active().url == backup.url
        assert primary.requests == []

        backup.answers = [Answer(500)]
        record(5, since=6)
        clock.move(minutes=1)
        drain(clock)
        assert active().url == primary.url

    def test_a_pin_is_respected_whatever_the_health(self, pair, clock):
        subscription, primary, backup = pair
        backup.answers = [Answer(500)]
        subscription.endpoints.get(position=1).pin("primary in maintenance", by="anna")
        record(5)

        drain(clock)

        assert primary.requests == []
        assert backup.requests[0].headers["webhook-failover-reason"] == "pinned"
        assert EndpointHealth.objects.get(endpoint__position=1).state == "unhealthy"
        assert active().url == backup.url
        switch = Switch.objects.get()
        assert (switch.cause, switch.by) == ("by_hand", "anna")
        assert (switch.reason, switch.note) == ("pinned", "primary in maintenance")

        subscription.endpoints.get(position=1).unpin(by="anna")
        clock.move(minutes=10)
        drain(clock)
        assert len(primary.requests) == 5


class TestEach:
    def test_a_delivery_that_fails_goes_to_the_next_endpoint_at_once(self, pair, clock):
        subscription, primary, backup = pair
        subscription.failover = "each"
        subscription.save()
        primary.answers = [Answer(500)]
        backup.answers = [Answer(500), Answer(204)]
        record(1)

        drain(clock)
        drain(clock)
        delivery = Delivery.objects.get()
        assert (len(primary.requests), len(backup.requests)) == (1, 1)
        assert delivery.attempts_made == 2
        assert timedelta(seconds=3) < delivery.due_at - clock() < timedelta(seconds=7)

        clock.move(minutes=1)
        drain(clock)
        drain(clock)
        assert (len(primary.requests), len(backup.requests)) == (2, 2)
        assert backup.requests[0].headers["webhook-failover-reason"] == "http_500"
        assert primary.requests[0].headers["webhook-max-attempts"] == "24"
        assert Delivery.objects.get().status == "succeeded"

    def test_health_stops_nothing(self, pair, clock):
        subscription, primary, backup = pair
        subscription.failover = "each"
        subscription.save()
        primary.answers = backup.answers = [Answer(500)]
        record(5)

        drain(clock)
        drain(clock)

        assert (len(primary.requests), len(backup.requests)) == (5, 5)
        assert causes() == []
        assert Delivery.objects.held().count() == 0


class TestAllDown:
    def test_deliveries_wait_without_attempts(self, clock):
        with receiving(500) as receiver:
            factories.subscription(url=receiver.url)
            record(5)
            drain(clock)
            burnt = Attempt.objects.count()
            record(30, since=5)
            for _ in range(20):
                clock.move(minutes=5)
                drain(clock)

        assert causes() == ["outage"]
        # Three, and what was under way beside them.
        assert 3 <= burnt <= 5
        assert Attempt.objects.count() == burnt
        assert Delivery.objects.held().count() == 35

    def test_what_is_recorded_meanwhile_is_held(self, clock):
        with receiving(500) as receiver:
            factories.subscription(url=receiver.url)
            record(3)
            drain(clock)
            [fresh] = record(1, since=3)

        assert fresh.due_at is None

    def test_one_delivery_tries_what_recovered_and_the_others_follow_slowly(self, clock):
        with receiving(500) as receiver:
            factories.subscription(url=receiver.url)
            record(40)
            drain(clock)
            clock.move(minutes=1)
            drain(clock)
            assert Delivery.objects.held().count() == 40
            receiver.answers = [Answer(204)]
            receiver.requests.clear()
            rise(clock)
            clock.move(seconds=1)
            assert Delivery.objects.due(clock()).count() == 1
            held = [one.event.message_id for one in Delivery.objects.order_by("pk")]

            drain(clock)
            clock.move(hours=1)
            drain(clock)

            assert Delivery.objects.succeeded().count() == 40
            assert receiver.ids[0] == held[0]
        assert causes() == ["outage", "recovery"]
        candidate = EndpointHealth.objects.get()
        assert (candidate.state, candidate.slow_start_released, candidate.failing_since) == (
            "healthy",
            None,
            None,
        )

    def test_a_fail_back_during_a_slow_start_goes_on_with_it(self, pair, clock):
        _, primary, backup = pair
        primary.answers = backup.answers = [Answer(500)]
        record(40)
        drain(clock)
        clock.move(minutes=1)
        drain(clock)
        assert Delivery.objects.held().count() == 40
        rise(clock, hold=3600)
        # The backup has recovered; its slow start has only begun when the primary has as well.
        EndpointHealth.objects.filter(endpoint__position=1).update(
            state="healthy", failing_since=None, is_active=True, slow_start_released=2
        )
        Delivery.objects.update(due_at=None)
        assert EndpointHealth.objects.get(endpoint__position=0).state == "trial"
        primary.answers = backup.answers = [Answer(204)]
        record(1, since=40)
        Delivery.objects.filter(pk=Delivery.objects.order_by("pk").first().pk).update(
            due_at=clock()
        )

        for _ in range(3):
            clock.move(minutes=1)
            drain(clock)
            maintenance.nudge(now=clock())

        assert active().url == primary.url
        assert Delivery.objects.succeeded().count() == 41
        assert EndpointHealth.objects.get(is_active=True).slow_start_released is None

    def test_a_trial_that_nothing_tries_is_given_a_delivery_by_the_sweep(self, clock):
        with receiving(500) as receiver:
            factories.subscription(url=receiver.url)
            record(3)
            drain(clock)
            clock.move(hours=1)
            drain(clock)
            Delivery.objects.update(due_at=None)
            receiver.answers = [Answer(204)]
            rise(clock)
            Delivery.objects.update(due_at=None)

            assert maintenance.nudge(now=clock()) == 1
            clock.move(minutes=1)
            assert maintenance.nudge(now=clock()) == 0
            drain(clock)

        assert Delivery.objects.succeeded().count() == 3

    def test_a_slow_start_that_stalls_is_pushed_on(self, clock):
        with receiving(204) as receiver:
            factories.subscription(url=receiver.url)
            record(5)
            Delivery.objects.update(due_at=None)
            EndpointHealth.objects.update(slow_start_released=2)

            assert maintenance.nudge(now=clock()) == 2
            assert EndpointHealth.objects.get().slow_start_released == 4
            assert maintenance.nudge(now=clock() + timedelta(minutes=1)) == 0

    def test_a_trial_is_made_by_one_delivery_at_a_time(self, clock):
        with receiving(Answer(204, delay=0.3)) as receiver:
            factories.subscription(url=receiver.url)
            record(5)
            EndpointHealth.objects.update(
                state="trial", failing_since=clock(), since=clock(), is_active=None, hold_seconds=30
            )
            drain(clock)
            assert receiver.requests[0].headers["webhook-attempt"] == "1"
            began = [one.at for one in receiver.requests]
            assert all(one - began[0] >= 0.3 for one in began[1:])

    def test_what_a_slow_start_releases_is_sent_by_the_same_run(self, clock):
        with receiving(Answer(204, delay=0.2)) as receiver:
            subscription = factories.subscription(url=receiver.url)
            record(7)
            Delivery.objects.update(due_at=None)
            subscription.disable("for long")
            subscription.resume()
            assert Delivery.objects.held().count() == 6

            drain(clock)

        assert Delivery.objects.succeeded().count() == 7

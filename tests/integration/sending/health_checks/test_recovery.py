"""Recovery: within one run that lasts, while nobody else checks endpoints."""

from __future__ import annotations

import itertools
import threading
from dataclasses import replace
from datetime import timedelta

import pytest

from django_webhooks import times
from django_webhooks.models import EndpointHealth, Switch
from django_webhooks.policies import outcome
from django_webhooks.sending import claims, health_checks, http, results, worker
from django_webhooks.sending.attempts import Job, Result
from django_webhooks.sending.claims import routing
from django_webhooks.sending.health_checks import probes, recovery
from django_webhooks.sending.worker import dispatch, executor
from tests import factories
from tests.receivers import Answer, receiving
from tests.timing import until

pytestmark = pytest.mark.django_db(transaction=True)
HOLD, INTERVAL = 1.0, 0.5
#: Seconds that a busy machine may add: less than the settings have without these.
SPARE = 20.0


@pytest.fixture(autouse=True)
def _quick(settings, monkeypatch):
    settings.WEBHOOKS_HEALTH_HOLD_SECONDS = HOLD
    settings.WEBHOOKS_PROBE_INTERVAL_UNHEALTHY_SECONDS = INTERVAL
    monkeypatch.setattr(dispatch, "DRAIN_SECONDS", 60.0)
    yield
    for thread in threading.enumerate():
        if thread.name == "webhooks-recovery":
            thread.join(60)


@pytest.mark.parametrize("seconds", [0.05, 0.4], ids=["quick backup", "slow backup"])
def test_a_primary_is_used_again_in_the_middle_of_a_run(settings, seconds):
    settings.WEBHOOKS_TIMEOUT_SECONDS = 40.0
    failures = [Answer(503)] * 3
    # However late the checks are, something is left for the primary.
    held = Answer(204, delay=seconds, gate=lambda: until(lambda: len(primary.requests) > 3))
    with (
        receiving(*failures, Answer(204, delay=0.05)) as primary,
        receiving(*[Answer(204, delay=seconds)] * 100, held) as backup,
    ):
        subscription = factories.subscription(url=primary.url)
        subscription.endpoints.create(url=backup.url, position=1)
        for number in range(400):
            factories.record(data={"id": number})

        worker.drain()

        assert len(primary.requests) > 20
        assert len(backup.requests) > 3
    away, back = Switch.objects.order_by("pk")[:2]
    assert [away.cause, back.cause] == ["failover", "failback"]
    waited = (back.created_at - away.created_at).total_seconds()
    assert HOLD <= waited <= HOLD + 2 * INTERVAL + SPARE


def test_a_request_that_begins_while_the_fall_is_recorded_is_no_evidence(settings, monkeypatch):
    """Its thread got its place before the fall, and reads its clock after it; the answer is 204."""
    settings.WEBHOOKS_HEALTH_HOLD_SECONDS = 60.0
    falls, numbers, record, failed = threading.Event(), itertools.count(1), results.record, []
    has_place = threading.Event()

    def clock():
        if threading.current_thread().name == "webhooks-sender" and next(numbers) == 4:
            has_place.set()
            assert falls.wait(60)
        return times.now()

    def slowly(results, **how):
        failed.extend(one for one in results if not one.outcome.succeeded)
        if len(failed) >= 3 and not falls.is_set():
            falls.set()
            until(lambda: len(primary.requests) == 4)
        return record(results, **how)

    monkeypatch.setattr(results, "record", slowly)
    # As after three that went well: four may be under way at once.
    monkeypatch.setattr(executor, "FIRST", 4)
    answers = [*[Answer(503, gate=lambda: has_place.wait(14))] * 3, 204]
    with receiving(*answers) as primary, receiving() as backup:
        subscription = factories.subscription(url=primary.url)
        subscription.endpoints.create(url=backup.url, position=1)
        for number in range(4):
            factories.record(data={"id": number})

        worker.drain(clock=clock)

        assert sorted(one.status for one in primary.requests) == [204] + [503] * 3
        assert len(backup.requests) == 3
    assert [one.cause for one in Switch.objects.all()] == ["failover"]
    assert subscription.endpoints.get(position=0).health.state == "unhealthy"


@pytest.mark.parametrize(
    ("options", "status", "state"),
    [
        pytest.param({}, 204, "unhealthy", id="succeeds"),
        pytest.param({"failover": "each"}, 204, "unhealthy", id="succeeds, each"),
        pytest.param({}, 503, "unhealthy", id="fails"),
    ],
)
def test_another_worker_that_does_not_know_of_the_fall_gives_no_evidence(options, status, state):
    subscription = factories.subscription(**options)
    subscription.endpoints.create(url="https://backup.example.com/hook", position=1)
    *mine, theirs = (result_of(delivery) for delivery in deliveries(4))
    results.record(mine, now=times.now(), using="default")
    switches = Switch.objects.count()

    theirs = replace(theirs, started_at=times.now(), outcome=outcome_of(status))
    recorded = results.record([theirs], now=times.now(), using="default")

    assert subscription.endpoints.get(position=0).health.state == state
    assert Switch.objects.count() == switches
    # It reads anew where its deliveries go.
    assert recorded.changed == {subscription.pk}


def test_what_was_sent_before_a_recovery_does_not_make_the_endpoint_fall_again():
    """Requests to the former URL time out after staff have mended it."""
    subscription = factories.subscription()
    late = [result_of(delivery) for delivery in deliveries(3)]
    endpoint = subscription.endpoints.get()
    endpoint.url = "https://mended.example.com/hook"
    endpoint.save()

    results.record(late, now=times.now(), using="default")

    health = subscription.endpoints.get().health
    assert (health.state, health.failures) == ("healthy", 0)


def deliveries(count):
    return [factories.record(data={"id": number})[0] for number in range(count)]


def outcome_of(status):
    return outcome.of_answer(status, {}, now=times.now(), client_errors_final=False)


def result_of(delivery, *, status=503):
    """A request that was made to the primary, as a worker with a lease of its own knew it."""
    [leased] = claims.take(
        now=times.now() + timedelta(seconds=1), limit=1, using="default", ids=[delivery.pk]
    ).deliveries
    return Result(
        job=Job(
            delivery=leased,
            subscription=leased.subscription,
            endpoint=routing.of(leased.subscription, leased).endpoint,
            policy=leased.subscription.retry_policy,
        ),
        started_at=times.now(),
        duration=0.01,
        response=http.Answer(status=status, headers={}, body=b""),
        outcome=outcome_of(status),
    )


def look(**fell):
    """Look once, as a run does, and return whether a check was begun."""
    recovery.checker._looked_at -= recovery.EVERY
    health_checks.look(using="default", clock=times.now)
    begun = [one for one in threading.enumerate() if one.name == "webhooks-recovery"]
    for thread in begun:
        thread.join(60)
    return bool(begun)


@pytest.mark.parametrize(
    ("state", "due", "expected"),
    [
        ("unhealthy", -1, True),
        ("unhealthy", 60, False),
        ("healthy", -1, False),
    ],
)
def test_what_is_checked(state, due, expected):
    with receiving() as receiver:
        factories.subscription(url=receiver.url)
        now = times.now()
        EndpointHealth.objects.update(
            state=state,
            failing_since=now if state != "healthy" else None,
            probe_due_at=now + timedelta(seconds=due),
        )

        look()

        assert (EndpointHealth.objects.get().probed_at is not None) is expected
    assert health_checks.look(using="default", clock=times.now) is expected
    assert health_checks.look(using="default", clock=times.now) is False


def test_a_check_that_fails_ends_no_run(monkeypatch, caplog):
    factories.subscription()
    EndpointHealth.objects.update(
        state="unhealthy", failing_since=times.now(), probe_due_at=times.now()
    )

    def fail(**how):
        raise ValueError("broken")

    monkeypatch.setattr(probes, "check_all", fail)
    look()

    assert "could not be checked" in caplog.text
    assert not recovery.checker._lock.locked()

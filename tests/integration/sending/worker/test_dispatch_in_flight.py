"""What happens to a delivery while a worker has it, and to a worker that cannot go on."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from django_webhooks import signals
from django_webhooks.models import Attempt, Delivery, Endpoint
from django_webhooks.policies import outcome as outcomes
from django_webhooks.policies.outcome import Outcome, Verdict
from django_webhooks.sending import attempts, claims, worker
from django_webhooks.sending import results as recorder
from django_webhooks.sending.attempts import Job, Result
from django_webhooks.sending.claims import routing
from django_webhooks.sending.http import Answer as Answered
from django_webhooks.sending.http import NoAnswer
from django_webhooks.sending.results import health, transitions
from tests import factories
from tests.factories import Clock
from tests.receivers import receiving

pytestmark = pytest.mark.django_db


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def disabled():
    found = []

    def hear(*, endpoint, reason, **kwargs):
        found.append((endpoint.pk, reason))

    signals.endpoint_disabled.connect(hear)
    yield found
    signals.endpoint_disabled.disconnect(hear)


def lease(clock):
    """Lease what is due, as a worker does, and return the jobs."""
    deliveries = claims.take(now=clock(), limit=100, using="default").deliveries
    return [
        Job(
            delivery=one,
            subscription=one.subscription,
            endpoint=one.subscription.endpoints.all()[0],
            policy=one.subscription.retry_policy,
        )
        for one in deliveries
    ]


def result(job, clock, *, status=None):
    """Return what a request would have brought: a status, or no answer."""
    if status is None:
        response, outcome = NoAnswer(reason="timeout"), outcomes.of_failure("timeout")
    else:
        response = Answered(status=status)
        outcome = outcomes.of_answer(
            status,
            {},
            now=clock(),
            client_errors_final=job.subscription.client_errors_final,
        )
    return Result(job=job, started_at=clock(), duration=0.1, response=response, outcome=outcome)


def record(clock, *results):
    return recorder.record(results, now=clock(), using="default").entries


def test_a_subscription_paused_meanwhile_holds_what_failed_when_it_is_due(clock):
    with receiving(204) as receiver:
        delivery = factories.delivery(receiver.url)
        [job] = lease(clock)
        delivery.subscription.pause()
        record(clock, result(job, clock, status=500))
        delivery.refresh_from_db()
        assert (delivery.status, delivery.due_at > clock()) == ("waiting", True)

        clock.move(minutes=1)
        worker.drain(clock=clock)
        delivery.refresh_from_db()
        assert (delivery.status, delivery.due_at, receiver.requests) == ("waiting", None, [])

        delivery.subscription.resume()
        clock.move(minutes=5)
        worker.drain(clock=clock)

    delivery.refresh_from_db()
    assert (delivery.status, delivery.attempts_made) == ("succeeded", 2)


def test_what_succeeded_meanwhile_has_succeeded(clock):
    delivery = factories.delivery()
    [job] = lease(clock)
    delivery.subscription.pause()

    record(clock, result(job, clock, status=200))

    delivery.refresh_from_db()
    assert delivery.status == "succeeded"


def test_a_subscription_deleted_meanwhile_keeps_the_attempt_and_stays_cancelled(clock):
    delivery = factories.delivery()
    [job] = lease(clock)
    delivery.subscription.delete()

    assert record(clock, result(job, clock, status=200)) == []

    delivery.refresh_from_db()
    assert (delivery.status, delivery.reason) == ("cancelled", "subscription_deleted")
    assert [(one.is_late, one.endpoint) for one in Attempt.objects.all()] == [(True, None)]


def test_an_endpoint_that_several_requests_find_gone_is_disabled_once(clock, disabled, caplog):
    factories.subscription()
    for number in range(5):
        factories.record(data={"id": number})
    jobs = lease(clock)

    record(clock, *[result(job, clock, status=410) for job in jobs[:3]])
    record(clock, *[result(job, clock, status=410) for job in jobs[3:]])

    endpoint = Endpoint.objects.get()
    assert disabled == [(endpoint.pk, "http_410")]
    lines = [line for line in caplog.records if "is disabled" in line.getMessage()]
    assert len(lines) == 1
    assert lines[0].webhooks_endpoint == str(endpoint.pk)
    assert Delivery.objects.waiting().count() == 5


def test_a_late_410_tells_all_the_same_that_the_endpoint_is_gone(clock, disabled):
    factories.delivery()
    [job] = lease(clock)
    clock.move(seconds=61)
    lease(clock)

    record(clock, result(job, clock, status=410))

    assert not Endpoint.objects.usable().exists()
    assert len(disabled) == 1
    assert Delivery.objects.get().status == "waiting"


@pytest.mark.parametrize("status", [410, 404, 500, None])
@pytest.mark.parametrize("is_kept", [True, False], ids=["kept", "deleted"])
def test_the_last_attempt_at_an_endpoint_that_is_deleted_meanwhile_is_not_the_last(
    clock, status, is_kept
):
    delivery = factories.delivery(retry_attempts=1, client_errors_final=True)
    backup = Endpoint.objects.create(
        subscription=delivery.subscription, url="http://127.0.0.1:8/hook", position=1
    )
    [one] = claims.take(now=clock(), limit=100, using="default").deliveries
    endpoint = one.subscription.endpoints.get(position=0)
    job = Job(
        delivery=one,
        subscription=one.subscription,
        endpoint=endpoint,
        policy=one.subscription.retry_policy,
    )
    if not is_kept:
        Endpoint.objects.get(position=0).delete()

    record(clock, result(job, clock, status=status))

    delivery.refresh_from_db()
    assert (delivery.status, delivery.due_at) == ("waiting", clock())
    key = delivery.subscription_id
    now = routing.refresh([key], using="default")[key]
    assert routing.of(now, delivery).endpoint == backup


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("step", "place"), [("move", transitions), ("_why", health)])
def test_attempts_and_states_are_written_together_or_not_at_all(clock, monkeypatch, step, place):
    delivery = factories.delivery()
    [job] = lease(clock)

    def fail(*args, **kwargs):
        raise RuntimeError(step)

    monkeypatch.setattr(place, step, fail)
    # It is set aside, so that its neighbours go on.
    record(clock, result(job, clock, status=410))

    delivery.refresh_from_db()
    assert (delivery.status, delivery.attempts_made) == ("waiting", 0)
    assert not Attempt.objects.exists()
    assert Endpoint.objects.usable().exists()


@pytest.mark.django_db(transaction=True)
def test_signals_are_sent_when_all_is_written(clock):
    factories.delivery()
    [job] = lease(clock)
    seen = []

    def look(*, delivery, **kwargs):
        seen.append((connection.in_atomic_block, Delivery.objects.get().status, delivery.status))

    signals.delivery_succeeded.connect(look)
    try:
        record(clock, result(job, clock, status=200))
    finally:
        signals.delivery_succeeded.disconnect(look)

    assert seen == [(False, "succeeded", "succeeded")]


@pytest.mark.django_db(transaction=True)
def test_no_transaction_is_open_while_the_network_is_used(clock, monkeypatch):
    factories.delivery()
    open_, real = [], attempts.make

    def make(job, *, now):
        # The thread of the run is waiting: nothing changes under this look at it.
        open_.append(owner.in_atomic_block)
        return real(job, now=now)

    owner = connection._connections[connection._alias]
    monkeypatch.setattr(attempts, "make", make)
    worker.drain(clock=clock)

    assert open_ == [False]


def test_the_object_in_memory_says_what_its_row_says(clock):
    factories.subscription(retry_attempts=2)
    for number in range(3):
        factories.record(data={"id": number})
    one, two, three = lease(clock)
    Delivery.objects.filter(pk=two.delivery.pk).update(attempts_made=1)
    two.delivery.attempts_made = 1

    record(clock, result(one, clock, status=200), result(two, clock), result(three, clock))

    columns = ("status", "due_at", "lease_token", "attempts_made", "reason", "finished_at")
    for job in (one, two, three):
        row = Delivery.objects.values(*columns).get(pk=job.delivery.pk)
        assert row == {name: getattr(job.delivery, name) for name in columns}
    states = [job.delivery.status for job in (one, two, three)]
    assert states == ["succeeded", "given_up", "waiting"]


def test_hundreds_of_retries_cost_as_many_queries_as_one(clock, django_assert_num_queries):
    factories.subscription(url="http://127.0.0.1:9/")
    for number in range(31):
        factories.record(data={"id": number})
    first, *others = lease(clock)
    gone = Outcome(verdict=Verdict.RETRY, reason="http_500")

    def failed(job):
        return Result(
            job=job, started_at=clock(), duration=0.1, response=Answered(status=500), outcome=gone
        )

    def failing(*jobs):
        with CaptureQueriesContext(connection) as queries:
            record(clock, *[failed(job) for job in jobs])
        return len(queries)

    failing(first)  # The endpoint falls with the second group.
    failing(*others[:5])
    assert failing(*others[5:6]) == failing(*others[6:]) <= 12

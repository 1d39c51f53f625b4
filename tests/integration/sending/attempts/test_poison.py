"""Poison: a delivery that nothing can deal with waits alone; its neighbours go on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from django_webhooks.models import Attempt, Delivery, EndpointHealth, Subscription
from django_webhooks.policies.retry import RetryPolicy
from django_webhooks.sending import claims, limits, worker
from django_webhooks.sending import results as recorder
from django_webhooks.sending.attempts import Job, make
from django_webhooks.sending.health_checks import auto_disable
from django_webhooks.validators import LONGEST_SECONDS
from tests import factories
from tests.factories import Clock
from tests.receivers import receiving

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def clock():
    return Clock()


def raising(name, *, poison):
    """Return a property of subscriptions that raises for one of them."""
    real = getattr(Subscription, name)

    def value(subscription):
        if subscription.pk == poison.subscription_id:
            raise KeyError("a bug")
        return real.fget(subscription)

    return property(value)


def results(clock, *, status):
    """Make an attempt of each delivery that is due."""
    lease = claims.take(now=clock(), limit=10, using="default")
    with receiving(status) as receiver:
        for delivery in lease.deliveries:
            endpoint = delivery.subscription.endpoints.get()
            endpoint.url = receiver.url
            job = Job(
                delivery=delivery,
                subscription=delivery.subscription,
                endpoint=endpoint,
                policy=delivery.subscription.retry_policy,
            )
            yield make(job, now=clock())


def test_numbers_beyond_the_calendar_harm_nobody(clock):
    """Rows that nobody validated: each of them would make a moment after the year 9999."""
    with receiving(500) as broken, receiving() as receiver:
        held = factories.subscription(url=broken.url, event_types=["user.*"])
        slow = factories.subscription(url=receiver.url, event_types=["user.*"])
        Subscription.objects.filter(pk=held.pk).update(
            health_hold_seconds=1e300,
            health_hold_cap_seconds=1e300,
            health_window_seconds=1e300,
            disable_after_seconds=1e300,
        )
        Subscription.objects.filter(pk=slow.pk).update(rate_limit_per_second=1e-300)
        for number in range(4):
            factories.record("user.joined", data={"id": number})
        factories.subscription(url=receiver.url)
        [good] = factories.record()

        for _ in range(4):
            worker.drain(clock=clock, is_patient=False)
            limits.nudge(now=clock(), using="default")
            auto_disable.disable_long_down(now=clock())
            clock.move(days=1)

    good.refresh_from_db()
    assert good.status == "succeeded"
    assert Attempt.objects.filter(delivery__subscription=held).count() >= 3
    candidate = EndpointHealth.objects.get(subscription=held)
    assert (candidate.state, candidate.hold_seconds) == ("unhealthy", LONGEST_SECONDS)
    # One goes at once, the next in eleven days.
    assert slow.deliveries.succeeded().count() == 1


def test_what_cannot_be_planned_waits_for_the_end_of_its_lease_and_says_so(clock, monkeypatch):
    with receiving() as receiver:
        poison, good = factories.delivery(url=receiver.url), factories.delivery(url=receiver.url)
        monkeypatch.setattr(Subscription, "retry_policy", raising("retry_policy", poison=poison))

        worker.drain(clock=clock)

    poison.refresh_from_db()
    good.refresh_from_db()
    assert good.status == "succeeded"
    assert (poison.status, poison.reason, poison.attempts_made) == ("waiting", "internal", 0)
    assert poison.due_at > clock()
    assert len(receiver.requests) == 1


def test_what_cannot_be_begun_is_an_attempt_that_failed_by_our_own_fault(clock, monkeypatch):
    with receiving() as receiver:
        poison, good = factories.delivery(url=receiver.url), factories.delivery(url=receiver.url)
        broken = raising("attempt_timeout", poison=poison)
        monkeypatch.setattr(Subscription, "attempt_timeout", broken)

        worker.drain(clock=clock)

    poison.refresh_from_db()
    good.refresh_from_db()
    assert good.status == "succeeded"
    assert (poison.status, poison.reason, poison.attempts_made) == ("waiting", "internal", 1)
    assert poison.lease_token is None
    assert Attempt.objects.get(delivery=poison).detail == "KeyError in the sender."


def test_a_result_that_the_database_refuses_keeps_no_other_from_it(clock):
    factories.subscription()
    for _ in range(3):
        factories.record()
    made = list(results(clock, status=200))
    # A duration that the database's own constraint refuses.
    made[1] = replace(made[1], duration=-1.0)

    recorded = recorder.record(made, now=clock(), using="default")

    poison = Delivery.objects.get(pk=made[1].job.delivery.pk)
    assert len(recorded.entries) == 2
    assert Delivery.objects.succeeded().count() == 2
    assert (poison.status, poison.reason) == ("waiting", "internal")
    assert poison.lease_token == made[1].job.delivery.lease_token
    assert Attempt.objects.count() == 2


def test_a_policy_that_nothing_can_be_reckoned_with_gives_way_to_the_default(clock):
    delivery = factories.delivery()
    [made] = results(clock, status=503)
    unusable = replace(made.job.policy, cap=float("nan"))

    recorder.record(
        [replace(made, job=replace(made.job, policy=unusable))], now=clock(), using="default"
    )

    delivery.refresh_from_db()
    wait = (delivery.due_at - clock()).total_seconds()
    base = RetryPolicy().base
    assert (delivery.status, delivery.reason, delivery.attempts_made) == ("waiting", "http_503", 1)
    assert 0.8 * base <= wait <= 1.2 * base

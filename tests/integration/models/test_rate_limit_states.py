"""Whether the deliveries of a subscription may flow: one rule, asked in many places."""

from __future__ import annotations

import itertools
from datetime import timedelta

import pytest

from django_webhooks import times
from django_webhooks.models import Delivery, Endpoint, EndpointHealth, Subscription
from django_webhooks.policies.reasons import SwitchReason
from django_webhooks.sending import database, maintenance, recording
from django_webhooks.sending.fan_out import fan_out
from django_webhooks.sending.recording import Draft
from django_webhooks.sending.replays import ReplayOptions
from django_webhooks.sending.replays.single import replay
from tests import factories

pytestmark = pytest.mark.django_db

STATUSES = ["active", "paused", "disabled"]
#: How the endpoints are, and whether something may flow to one of them.
ENDPOINTS = {
    "healthy": True,
    "slow start": False,
    "none active": False,
    "on trial": False,
    "disabled": False,
    "disabled, still flagged": False,
    "none at all": False,
    "pinned though unhealthy": True,
    "backup active": True,
    "backup active, starting slowly": False,
}
CASES = [
    pytest.param(
        status, unreadable, endpoints, id=f"{status}-{unreadable or 'readable'}-{endpoints}"
    )
    for status, unreadable, endpoints in itertools.product(STATUSES, ["", "unreadable"], ENDPOINTS)
]


def arranged(status, unreadable, endpoints):
    """Return a subscription in such a state, and whether its deliveries may flow."""
    url = None if endpoints == "none at all" else "http://127.0.0.1:9/"
    made = factories.subscription(url=url)
    rows, now = EndpointHealth.objects.filter(subscription=made), times.now()
    failing = {"state": "unhealthy", "failing_since": now, "hold_until": now}
    match endpoints:
        case "slow start":
            rows.update(slow_start_released=2)
        case "none active":
            rows.update(is_active=None, **failing)
        case "on trial":
            rows.update(is_active=None, state="trial", failing_since=now)
        case "disabled":
            made.endpoints.get().disable("http_410")
        case "disabled, still flagged":
            Endpoint.objects.update(disabled_at=now)
        case "pinned though unhealthy":
            made.endpoints.get().pin("drill", by="ann")
            rows.update(**failing)
        case "backup active" | "backup active, starting slowly":
            backup = Endpoint.objects.create(
                subscription=made, url="http://127.0.0.1:8/", position=1
            )
            rows.filter(endpoint__position=0).update(is_active=None, **failing)
            slow_start_released = 1 if "slowly" in endpoints else None
            rows.filter(endpoint=backup).update(
                is_active=True, slow_start_released=slow_start_released
            )
    Subscription.objects.update(status=status, unreadable_since=now if unreadable else None)
    expected = status == "active" and not unreadable and ENDPOINTS[endpoints]
    return Subscription.objects.get(), expected


def is_due(delivery):
    return Delivery.objects.get(pk=delivery.pk).due_at is not None


@pytest.mark.parametrize(("status", "unreadable", "endpoints"), CASES)
def test_all_who_ask_hear_the_same(status, unreadable, endpoints):
    subscription, flows = arranged(status, unreadable, endpoints)
    using = database.alias()
    first, second = factories.record(), factories.record()
    recording.record([Draft(event_type="order.paid", data={"id": 3})], using=using)
    told = fan_out.make(using=using).due
    tested = recording.record_for(
        subscription, Draft(event_type="order.paid", data={"id": 4}), using=using
    )
    Delivery.objects.filter(pk=first[0].pk).update(
        status="given_up", due_at=None, finished_at=times.now()
    )
    [replayed] = replay([first[0]])

    answers = {
        "property": subscription.flows,
        "set": Subscription.objects.flowing().exists(),
        "health": EndpointHealth.objects.flowing().exists(),
        "emit": is_due(second[0]),
        "record_for": is_due(tested),
        "replay": is_due(replayed),
        "told": bool(told),
    }

    assert answers == dict.fromkeys(answers, flows)


@pytest.mark.parametrize(("status", "unreadable", "endpoints"), CASES)
def test_what_is_held_is_released_where_it_may_flow_alone(status, unreadable, endpoints):
    _, flows = arranged(status, unreadable, endpoints)
    factories.record()
    Delivery.objects.update(due_at=None)
    Subscription.objects.update(sending_changed_at=times.now())

    maintenance.release_forgotten()

    assert Delivery.objects.filter(due_at__isnull=False).exists() == flows


@pytest.mark.parametrize(("status", "unreadable", "endpoints"), CASES)
def test_limits_let_the_same_flow(status, unreadable, endpoints):
    subscription, flows = arranged(status, unreadable, endpoints)
    Subscription.objects.update(rate_limit_per_second=10)
    subscription = Subscription.objects.prefetch_related("endpoints__health").get()

    assert subscription.limits
    assert subscription.flows_to(EndpointHealth.objects.all()) == flows


@pytest.mark.parametrize(("status", "unreadable", "endpoints"), CASES)
def test_a_sentence_says_that_it_waits_for_its_subscription(status, unreadable, endpoints):
    _, flows = arranged(status, unreadable, endpoints)
    [delivery] = factories.record()

    sentence = Delivery.objects.get(pk=delivery.pk).explain()

    assert sentence.startswith("Waits for a worker since") == flows
    if status == "active" and unreadable:
        assert "WEBHOOKS_ENCRYPTION_KEYS" in sentence


def test_a_replay_to_a_chosen_endpoint_does_not_wait_for_health():
    subscription, _ = arranged("active", "", "none active")
    [delivery] = factories.record()
    Delivery.objects.update(status="given_up", due_at=None, finished_at=times.now())

    [made] = replay(
        [delivery], replay_options=ReplayOptions(endpoint=subscription.endpoints.get().pk)
    )

    assert is_due(made)


def test_what_became_unreadable_waits_until_it_is_readable_again():
    arranged("active", "unreadable", "healthy")
    [delivery] = factories.record()
    assert not is_due(delivery)

    maintenance.release_readable(now=times.now() + timedelta(seconds=1))

    assert is_due(delivery)


def test_a_change_of_what_cannot_be_read_releases_nothing():
    subscription, _ = arranged("active", "unreadable", "healthy")
    [delivery] = factories.record()

    subscription.reconsider(using=database.alias(), reason=SwitchReason.REPAIRED, afresh=None)

    assert not is_due(delivery)

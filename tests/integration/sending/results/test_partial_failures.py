"""A healthy endpoint that refuses some requests: its others do not wait for each refusal."""

from __future__ import annotations

from datetime import timedelta

import pytest

from django_webhooks.models import Attempt, Endpoint, EndpointHealth
from django_webhooks.policies import outcome
from django_webhooks.sending import claims, results, worker
from django_webhooks.sending.attempts import Job, Result
from django_webhooks.sending.http import Answer as Answered
from tests import factories
from tests.factories import Clock
from tests.receivers import Answer, receiving

pytestmark = pytest.mark.django_db(transaction=True)
COUNT = 240


def groups(monkeypatch, answers, *, failover):
    """Send a backlog, and return the sizes of the groups that were recorded."""
    sizes, record = [], results.record

    def noted(results, **how):
        sizes.append(len(results))
        return record(results, **how)

    with monkeypatch.context() as patch, receiving(*answers) as receiver:
        patch.setattr(results, "record", noted)
        factories.subscription(url=receiver.url, failover=failover, health_window_attempts=10_000)
        for number in range(COUNT):
            factories.record(data={"id": number})
        while worker.drain().is_more_due:
            # A busy machine needs more than one run.
            pass
    return sizes


# One request after the other, whose answers come in their order, and several, whose answers do not.
@pytest.mark.parametrize(("every", "at_once"), [(2, 1), (4, 1), (4, 8)])
@pytest.mark.parametrize("status", [503, 429, 404])
@pytest.mark.parametrize("failover", ["switch", "each"])
def test_groups_stay_as_large_as_where_all_is_well(
    monkeypatch, settings, every, at_once, status, failover
):
    settings.WEBHOOKS_MAX_IN_FLIGHT_PER_ENDPOINT = at_once
    settings.WEBHOOKS_RETRY_BASE_SECONDS = 600.0
    answers = [Answer(204 if n % every else status) for n in range(1, COUNT + 1)]

    sizes = groups(monkeypatch, answers, failover=failover)

    assert EndpointHealth.objects.get().state == "healthy"
    assert sum(sizes) == Attempt.objects.count() == COUNT
    # Each refusal was a group's last before: there were at least as many groups as refusals.
    assert len(sizes) < COUNT / every


@pytest.mark.parametrize(
    ("answers", "state"),
    [
        # By the second at which its request began, in the order in which they were answered.
        ([(1, 503), (3, 503), (4, 503), (2, 204)], "healthy"),
        ([(3, 204), (1, 503), (2, 503), (4, 503)], "healthy"),
        ([(1, 204), (4, 503), (2, 503), (3, 503)], "unhealthy"),
    ],
)
def test_failures_are_in_a_row_as_their_requests_began(answers, state):
    clock = Clock()
    subscription = factories.subscription(health_fall=3)
    for number in range(len(answers)):
        factories.record(data={"id": number})
    leased = claims.take(now=clock(), limit=10, using="default").deliveries
    endpoint = Endpoint.objects.select_related("health").get()
    told = [
        Result(
            job=Job(
                delivery=delivery,
                subscription=subscription,
                endpoint=endpoint,
                policy=subscription.retry_policy,
            ),
            started_at=clock() + timedelta(seconds=second),
            duration=0.001,
            response=Answered(status=status, headers={}, body=b""),
            outcome=outcome.of_answer(status, {}, now=clock()),
        )
        for delivery, (second, status) in zip(leased, answers, strict=True)
    ]

    results.record(told, now=clock(), using="default")

    assert EndpointHealth.objects.get().state == state

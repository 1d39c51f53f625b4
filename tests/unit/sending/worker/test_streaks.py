"""What results mean for the traffic to an endpoint, by the failures in a row before them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from django_webhooks.models import Delivery, Endpoint, EndpointHealth, Subscription
from django_webhooks.policies import outcome
from django_webhooks.policies.retry import RetryPolicy
from django_webhooks.sending.attempts import Job, Result
from django_webhooks.sending.http import Answer
from django_webhooks.sending.worker.executor import Judgement
from django_webhooks.sending.worker.streaks import Streaks

NOW = datetime(2026, 11, 30, tzinfo=UTC)
WELL, NEUTRAL, BAD, URGENT = Judgement.WELL, Judgement.NEUTRAL, Judgement.BAD, Judgement.URGENT


def job(endpoint=None, *, fall=5, **fields):
    subscription = Subscription(health_fall=fall)
    endpoint = endpoint or Endpoint(subscription=subscription)
    endpoint.health = EndpointHealth(endpoint=endpoint)
    policy = RetryPolicy(attempts=3, base=1.0, factor=2.0, cap=9.0)
    return Job(
        delivery=Delivery(),
        subscription=subscription,
        endpoint=endpoint,
        policy=policy,
        **fields,
    )


def result(of, status):
    return Result(
        job=of,
        started_at=NOW,
        duration=0.001,
        response=Answer(status=status, headers={}, body=b""),
        outcome=outcome.of_answer(status, {}, now=NOW),
    )


def judged(answers, **how):
    """Return the judgements of requests that begin in order and are answered in another.

    ``answers`` are pairs of a request's number, from 1, and the status that it gets.
    """
    streaks = Streaks()
    first = job(**how)
    jobs = [first, *(job(first.endpoint, **how) for _ in range(11))]
    for one in jobs:
        streaks.begin(one)
    return [streaks.judge(result(jobs[number - 1], status)) for number, status in answers]


@pytest.mark.parametrize("status", [500, 503, 404, 302])
@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ([1, 2, 3, 4], [NEUTRAL, BAD, BAD, URGENT]),
        ([4, 3, 2, 1], [NEUTRAL, BAD, BAD, URGENT]),
        # Whatever is still under way may yet go well.
        ([1, 3, 5, 7], [NEUTRAL] * 4),
        ([1, 3, 5, 4, 2], [NEUTRAL, NEUTRAL, NEUTRAL, BAD, URGENT]),
    ],
)
def test_a_row_is_of_requests_that_began_one_after_the_other(status, order, expected):
    assert judged([(number, status) for number in order]) == expected


@pytest.mark.parametrize("every", [2, 3, 4])
def test_single_refusals_are_no_row_in_whatever_order_they_are_answered(every):
    refused = [(number, 503) for number in range(every, 13, every)]
    others = [(number, 204) for number in range(1, 13) if number % every]

    assert set(judged(refused + others, fall=3)) == {NEUTRAL, WELL}
    assert set(judged(others + refused, fall=3)) == {NEUTRAL, WELL}


def test_a_success_ends_the_row_before_it_alone():
    early = [(2, 503), (3, 503), (1, 204), (4, 503), (5, 503)]
    late = [(1, 503), (2, 503), (3, 503), (4, 204), (5, 503)]

    assert judged(early) == [NEUTRAL, BAD, WELL, BAD, URGENT]
    assert judged(late) == [NEUTRAL, BAD, BAD, WELL, NEUTRAL]


def test_an_answer_that_tells_nothing_neither_breaks_a_row_nor_counts():
    mixed = [(1, 503), (2, 429), (3, 503), (4, 429), (5, 503), (6, 429), (7, 503)]

    assert judged(mixed)[::2] == [NEUTRAL, BAD, BAD, URGENT]
    assert set(judged([(number, 429) for number in range(1, 8)])) == {BAD}


def test_the_row_before_the_last_but_one_is_no_end_where_traffic_has_other_ways():
    answers = [(number, 503) for number in range(1, 6)]

    assert judged(answers, fall=2)[0] is URGENT
    assert judged(answers, fall=2, endpoint_count=2) == [NEUTRAL, BAD, BAD, BAD, BAD]


def test_a_trial_and_an_endpoint_that_is_gone_are_urgent_at_once():
    assert judged([(1, 503)], is_trial=True) == [URGENT]
    assert judged([(1, 410)], endpoint_count=2) == [URGENT]


def test_endpoints_have_rows_of_their_own():
    streaks, jobs = Streaks(), [job(fall=3), job(fall=3)]
    for one in jobs:
        streaks.begin(one)

    assert [streaks.judge(result(one, 503)) for one in jobs] == [NEUTRAL, NEUTRAL]

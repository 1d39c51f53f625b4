"""When to try again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_webhooks.policies.outcome import Outcome, Verdict, of_failure
from django_webhooks.policies.retry import Done, GiveUp, RetryPolicy, TryAgain, decide

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
FAILED = of_failure("timeout")
policies = st.builds(
    RetryPolicy,
    attempts=st.integers(1, 30),
    base=st.floats(0.01, 100),
    factor=st.floats(1, 10),
    cap=st.floats(100, 50_000),
    jitter=st.floats(0, 0.9),
    retry_after_cap=st.floats(1, 100_000),
    max_age=st.floats(1e6, 1e7),
)
randoms = st.floats(0, 1, exclude_max=True)


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def decided(outcome, *, attempts=1, policy=None, recorded_at=NOW, random=0.5, endpoint_count=1):
    return decide(
        outcome,
        attempts=attempts,
        policy=policy or RetryPolicy(),
        recorded_at=recorded_at,
        now=NOW,
        random=random,
        endpoint_count=endpoint_count,
    )


@pytest.mark.parametrize(
    ("attempts", "expected"),
    [
        pytest.param(1, TryAgain(at=NOW, reason="timeout"), id="the next endpoint at once"),
        pytest.param(2, TryAgain(at=NOW, reason="timeout"), id="the last endpoint at once"),
        pytest.param(3, TryAgain(at=NOW + timedelta(seconds=5), reason="timeout"), id="a round"),
        pytest.param(6, TryAgain(at=NOW + timedelta(seconds=30), reason="timeout"), id="two"),
        pytest.param(35, TryAgain(at=NOW, reason="timeout"), id="the last of the last round"),
        pytest.param(36, GiveUp(reason="timeout"), id="all rounds"),
    ],
)
def test_a_round_of_endpoints_counts_as_one_attempt(attempts, expected):
    assert decided(FAILED, attempts=attempts, endpoint_count=3) == expected


@pytest.mark.parametrize("attempts", [1, 2, 12, 99])
@pytest.mark.parametrize("endpoint_count", [1, 2])
def test_an_endpoint_that_is_gone_costs_the_delivery_nothing(attempts, endpoint_count):
    gone = Outcome(verdict=Verdict.RETRY, reason="http_410", endpoint_gone=True)

    assert decided(gone, attempts=attempts, endpoint_count=endpoint_count) == TryAgain(
        at=NOW, reason="http_410"
    )


def test_a_final_answer_in_a_round_leaves_it_to_the_next_endpoint():
    final = Outcome(verdict=Verdict.FINAL, reason="http_404")

    assert decided(final, attempts=1, endpoint_count=2) == TryAgain(at=NOW, reason="http_404")
    assert decided(final, attempts=2, endpoint_count=2) == GiveUp(reason="http_404")
    refused = Outcome(verdict=Verdict.FINAL, reason="receiver_refused", is_for_all=True)
    assert decided(refused, attempts=1, endpoint_count=2) == GiveUp(reason="receiver_refused")


@pytest.mark.parametrize(
    ("retry", "seconds"),
    [
        pytest.param(1, 5, id="first"),
        pytest.param(2, 30, id="second"),
        pytest.param(3, 180, id="third"),
        pytest.param(6, 38_880, id="sixth"),
        pytest.param(7, 43_200, id="capped"),
        pytest.param(10_000, 43_200, id="too large for a float"),
    ],
)
def test_the_wait_grows_to_the_cap(retry, seconds):
    assert RetryPolicy().wait(retry, random=0.5) == pytest.approx(seconds)


def test_the_default_schedule_spans_about_three_days():
    policy = RetryPolicy()

    span = sum(policy.wait(retry, random=0.5) for retry in range(1, policy.attempts))

    assert 2.9 * 86_400 < span < 3.2 * 86_400


@pytest.mark.parametrize(
    ("outcome", "attempts", "expected"),
    [
        pytest.param(Outcome(verdict=Verdict.SUCCEEDED), 1, Done(), id="succeeded"),
        pytest.param(
            Outcome(verdict=Verdict.FINAL, reason="http_410"),
            1,
            GiveUp(reason="http_410"),
            id="final",
        ),
        pytest.param(FAILED, 12, GiveUp(reason="timeout"), id="limit reached"),
        pytest.param(FAILED, 1, TryAgain(at=after(5), reason="timeout"), id="first retry"),
        pytest.param(FAILED, 11, TryAgain(at=after(43_200), reason="timeout"), id="last retry"),
    ],
)
def test_the_decision(outcome, attempts, expected):
    assert decided(outcome, attempts=attempts) == expected


def test_a_retry_after_is_never_undercut():
    outcome = Outcome(verdict=Verdict.RETRY, reason="http_429", retry_after=after(3600))

    assert decided(outcome) == TryAgain(at=after(3600), reason="http_429")


def test_a_retry_after_shorter_than_the_backoff_changes_nothing():
    outcome = Outcome(verdict=Verdict.RETRY, reason="http_429", retry_after=after(1))

    assert decided(outcome) == TryAgain(at=after(5), reason="http_429")


def test_a_retry_after_is_capped():
    outcome = Outcome(
        verdict=Verdict.RETRY, reason="http_429", retry_after=datetime.max.replace(tzinfo=UTC)
    )

    assert decided(outcome) == TryAgain(at=after(86_400), reason="http_429")


def test_an_event_past_its_age_is_not_tried_again():
    old = NOW - timedelta(days=7) + timedelta(seconds=4)

    assert decided(FAILED, recorded_at=old) == GiveUp(reason="expired")


@given(policy=policies, retry=st.integers(1, 50), random=randoms)
def test_waits_never_shrink_and_stay_within_cap_and_jitter(policy, retry, random):
    steady = RetryPolicy(base=policy.base, factor=policy.factor, cap=policy.cap, jitter=0)

    wait = policy.wait(retry, random=random)
    middle = steady.wait(retry, random=random)

    assert steady.wait(retry + 1, random=random) >= middle
    assert middle <= policy.cap
    assert abs(wait - middle) <= middle * policy.jitter + 1e-9 * middle


@given(policy=policies, attempts=st.integers(1, 40), random=randoms, asked=st.floats(0, 1e6))
def test_it_is_never_earlier_than_asked_and_always_ends(policy, attempts, random, asked):
    outcome = Outcome(verdict=Verdict.RETRY, reason="http_503", retry_after=after(asked))

    decision = decided(outcome, attempts=attempts, policy=policy, random=random)

    if attempts >= policy.attempts:
        assert decision == GiveUp(reason="http_503")
    else:
        assert isinstance(decision, TryAgain)
        earliest = min(asked, policy.retry_after_cap)
        assert (decision.at - NOW).total_seconds() >= earliest - 1e-3

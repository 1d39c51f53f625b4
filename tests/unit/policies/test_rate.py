"""How many requests may go: never more than a burst and the rate, in any stretch of time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_webhooks.policies import rate as policy
from django_webhooks.policies.rate import Limits

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def after(seconds):
    return NOW + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("rate", "state", "wanted", "count", "next_in"),
    [
        pytest.param(20, None, 5, 5, 0.0, id="the burst is what a second allows"),
        pytest.param(20, None, 100, 20, 0.05, id="and no more than that"),
        pytest.param(20, -3600.0, 100, 20, 0.05, id="however long nothing went"),
        pytest.param(20, 0.95, 100, 1, 0.05, id="one place is left"),
        pytest.param(20, 1.0, 100, 0, 0.05, id="none is left"),
        pytest.param(20, 0.5, 0, 0, 0.0, id="nothing is wanted"),
        pytest.param(1, None, 100, 1, 1.0, id="one a second"),
        pytest.param(0.1, None, 100, 1, 10.0, id="one in ten seconds"),
        pytest.param(0.1, 4.0, 100, 0, 4.0, id="not yet"),
        pytest.param(2.5, None, 100, 2, 0.2, id="a burst in part"),
        pytest.param(20, 86_400.0, 100, 0, 0.05, id="left by a clock that was set back"),
    ],
)
def test_how_many_may_go(rate, state, wanted, count, next_in):
    state = None if state is None else after(state)

    granted = policy.decide(state, wanted=wanted, rate=rate, now=NOW)

    assert granted.count == count
    assert (granted.next_at - NOW).total_seconds() == pytest.approx(next_in, abs=1e-5)


@pytest.mark.parametrize(
    ("rate", "state", "count", "seconds"),
    [
        pytest.param(2, None, 5, [0, 0, 0.5, 1, 1.5], id="a burst, then one after the other"),
        pytest.param(2, 1.0, 3, [0.5, 1, 1.5], id="behind what went"),
        pytest.param(2, 5.0, 9, [4.5], id="no later than asked"),
        pytest.param(2, 9.0, 9, [], id="none before that"),
        pytest.param(0.5, None, 9, [0, 2, 4], id="a low rate"),
        pytest.param(2, None, 0, [], id="none is wanted"),
    ],
)
def test_moments_are_reserved(rate, state, count, seconds):
    state = None if state is None else after(state)

    moments, reserved = policy.reserve(state, count=count, rate=rate, now=NOW, until=after(4.9))

    assert [(one - NOW).total_seconds() for one in moments] == pytest.approx(seconds, abs=1e-5)
    expected = max(state or NOW, NOW) + timedelta(seconds=len(seconds) / rate)
    assert abs((reserved - expected).total_seconds()) < 1e-4


@given(
    rate=st.floats(0.05, 500),
    steps=st.lists(st.tuples(st.floats(0, 5), st.integers(0, 40)), min_size=1, max_size=60),
)
def test_no_stretch_of_time_sees_more_than_a_burst_and_the_rate(rate, steps):
    state, now, went = None, 0.0, []
    for pause, wanted in steps:
        now += pause
        granted = policy.decide(state, wanted=wanted, rate=rate, now=after(now))
        state = granted.state
        went.append((now, granted.count))

    burst = max(1.0, rate)
    for index, (start, _) in enumerate(went):
        total = 0
        for end, count in went[index:]:
            total += count
            assert total <= burst + rate * (end - start + 1e-3)


@given(rate=st.floats(0.05, 500), state=st.floats(-10, 10), wanted=st.integers(1, 400))
def test_who_comes_at_the_next_moment_goes(rate, state, wanted):
    first = policy.decide(after(state), wanted=wanted, rate=rate, now=NOW)

    assert policy.decide(first.state, wanted=1, rate=rate, now=first.next_at).count == 1


@given(rate=st.floats(0.05, 500), used=st.integers(0, 400), count=st.integers(1, 100))
def test_who_comes_at_the_moments_reserved_goes(rate, used, count):
    state = policy.decide(None, wanted=used, rate=rate, now=NOW).state

    moments, _ = policy.reserve(state, count=count, rate=rate, now=NOW, until=after(60))

    for moment in moments:
        granted = policy.decide(state, wanted=1, rate=rate, now=moment)
        assert granted.count == 1
        state = granted.state


@pytest.mark.parametrize(
    ("limits", "is_limited"),
    [(Limits(), False), (Limits(rate=1.0), True), (Limits(in_flight=1), True)],
)
def test_limits_are_true_where_there_is_one(limits, is_limited):
    assert bool(limits) is is_limited

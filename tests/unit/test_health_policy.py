"""Whether an endpoint may be called: every move, and what holds whatever happens."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from django_webhooks.policies import failover, health
from django_webhooks.policies.failover import Door, Failback
from django_webhooks.policies.health import (
    Attempted,
    Evidence,
    Healthy,
    Thresholds,
    Trial,
    Unhealthy,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
THRESHOLDS = Thresholds()
FELL = Unhealthy(
    since=NOW, failing_since=NOW, reason="timeout", hold=30, until=NOW + timedelta(seconds=30)
)
TRIAL = Trial(since=NOW, failing_since=NOW, reason="timeout", hold=30)


def after(seconds):
    return NOW + timedelta(seconds=seconds)


def attempted(
    state, evidence, *, event=1, at=1.0, began=None, others=True, reason="http_500", by=THRESHOLDS
):
    attempt = Attempted(
        began_at=after(at if began is None else began),
        event=event,
        evidence=evidence,
        reason=reason,
    )
    return health.attempted(state, attempt, others_wait=others, now=after(at), thresholds=by)


def fail(state, *events, **options):
    for event in events:
        state = attempted(state, Evidence.FAILING, event=event, **options)
    return state


def probed(state, *, succeeded, at, by=THRESHOLDS):
    return health.probed(
        state,
        succeeded=succeeded,
        reason="" if succeeded else "tls",
        now=after(at),
        thresholds=by,
    )


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("timeout", Evidence.FAILING),
        ("connect_timeout", Evidence.FAILING),
        ("connection", Evidence.FAILING),
        ("tls", Evidence.FAILING),
        ("dns", Evidence.FAILING),
        ("protocol", Evidence.FAILING),
        ("blocked", Evidence.FAILING),
        ("http_500", Evidence.FAILING),
        ("http_599", Evidence.FAILING),
        ("http_5", Evidence.NOTHING),
        ("http_429", Evidence.NOTHING),
        ("http_408", Evidence.NOTHING),
        ("http_404", Evidence.NOTHING),
        ("http_410", Evidence.NOTHING),
        ("redirect", Evidence.NOTHING),
        ("receiver_refused", Evidence.NOTHING),
        ("internal", Evidence.NOTHING),
    ],
)
def test_what_a_failure_says_of_its_endpoint(reason, expected):
    assert health.evidence_of(succeeded=False, reason=reason) is expected


def test_a_success_says_that_all_is_well():
    assert health.evidence_of(succeeded=True, reason="") is Evidence.WELL


class TestFalling:
    @pytest.mark.parametrize(
        ("events", "others", "falls"),
        [
            pytest.param([1, 2], True, False, id="two failures"),
            pytest.param([1, 2, 3], True, True, id="three events"),
            pytest.param([1, 1, 2], True, True, id="two events"),
            pytest.param([1, 1, 1], True, False, id="one event while others wait"),
            pytest.param([1, 1, 1, 1, 1, 2], True, True, id="one event, then another"),
            pytest.param([1, 1, 1], False, True, id="one event and nothing else"),
            pytest.param([1, 1], False, False, id="one event twice"),
        ],
    )
    def test_failures_in_a_row(self, events, others, falls):
        state = fail(Healthy(since=NOW), *events, others=others)

        assert isinstance(state, Unhealthy) is falls

    def test_a_success_between_begins_anew(self):
        state = fail(Healthy(since=NOW), 1, 2)
        state = attempted(state, Evidence.WELL, event=3)
        assert (state.failures, state.event, state.is_mixed) == (0, None, False)
        assert isinstance(fail(state, 4, 5), Healthy)
        assert isinstance(fail(state, 4, 5, 6), Unhealthy)

    def test_what_tells_nothing_changes_nothing(self):
        state = fail(Healthy(since=NOW), 1, 2)

        assert attempted(state, Evidence.NOTHING) is state
        assert attempted(FELL, Evidence.NOTHING) is FELL
        assert attempted(TRIAL, Evidence.NOTHING) is TRIAL

    def test_half_of_twenty_attempts_within_a_minute(self):
        state = Healthy(since=NOW)
        for number in range(19):
            evidence = Evidence.WELL if number % 2 else Evidence.FAILING
            state = attempted(state, evidence, event=number, at=number)
        assert isinstance(state, Healthy)
        assert isinstance(fail(state, 99, at=20), Unhealthy)

    def test_less_than_half_do_not_count(self):
        state = Healthy(since=NOW)
        for number in range(59):
            evidence = Evidence.FAILING if number % 3 == 0 else Evidence.WELL
            state = attempted(state, evidence, event=number, at=number)

        assert isinstance(state, Healthy)

    def test_a_new_window_begins_after_a_minute(self):
        state = Healthy(since=NOW)
        for number in range(18):
            evidence = Evidence.WELL if number % 2 else Evidence.FAILING
            state = attempted(state, evidence, event=number, at=number)
        state = fail(state, 99, at=60)

        assert isinstance(state, Healthy)
        assert (state.window_began, state.window_attempts) == (after(60), 1)

    def test_a_window_that_began_in_the_future_is_begun_anew(self):
        state = fail(Healthy(since=NOW), 1, at=0)
        state = fail(state, 2, at=-3600)

        assert (state.window_began, state.window_attempts) == (after(-3600), 1)

    def test_it_is_held_for_the_first_hold_and_says_why(self):
        state = fail(Healthy(since=NOW), 1, 2, 3, at=5, reason="dns")

        assert state == Unhealthy(
            since=after(5), failing_since=after(5), reason="dns", hold=30, until=after(35)
        )

    @pytest.mark.parametrize(
        ("at", "hold"),
        [(299, 120), (301, 30)],
        ids=["soon after it recovered", "long after it recovered"],
    )
    def test_a_relapse_is_held_longer(self, at, hold):
        state = fail(Healthy(since=NOW, hold=30), 1, 2, 3, at=at)

        assert state.hold == hold

    def test_three_failed_probes_in_a_row(self):
        state = Healthy(since=NOW)
        for succeeded in (False, False, True, False, False):
            state = probed(state, succeeded=succeeded, at=1)
        assert (type(state), state.probe_failures) == (Healthy, 2)
        assert probed(state, succeeded=False, at=2).reason == "tls"

    def test_a_probe_that_succeeds_says_nothing_of_deliveries(self):
        state = probed(fail(Healthy(since=NOW), 1, 2), succeeded=True, at=1)

        assert isinstance(fail(state, 3), Unhealthy)


class TestRising:
    def test_two_probes_in_a_row_once_the_hold_is_over(self):
        state = probed(FELL, succeeded=True, at=10)
        state = probed(state, succeeded=True, at=20)
        assert isinstance(state, Unhealthy)
        assert probed(state, succeeded=True, at=30) == Trial(
            since=after(30), failing_since=NOW, reason="timeout", hold=30
        )

    def test_one_probe_is_too_few(self):
        assert isinstance(probed(FELL, succeeded=True, at=99), Unhealthy)

    def test_a_failed_probe_begins_anew(self):
        state = FELL
        for succeeded in (True, False, True):
            state = probed(state, succeeded=succeeded, at=99)

        assert (type(state), state.rises) == (Unhealthy, 1)

    @pytest.mark.parametrize(("at", "expected"), [(29, Unhealthy), (30, Trial)])
    def test_what_is_not_probed_rises_when_its_hold_is_over(self, at, expected):
        assert type(health.waited(FELL, now=after(at))) is expected

    @pytest.mark.parametrize("state", [Healthy(since=NOW), TRIAL])
    def test_waiting_changes_nothing_else(self, state):
        assert health.waited(state, now=after(99)) is state

    def test_a_clock_that_was_set_back_holds_it_no_longer_than_its_hold(self):
        state = probed(FELL, succeeded=True, at=-3600)
        assert state.until == after(-3570)
        assert isinstance(probed(state, succeeded=True, at=-3570), Trial)


class TestTrial:
    def test_a_delivery_that_arrives_ends_it(self):
        assert attempted(TRIAL, Evidence.WELL, at=5) == Healthy(since=after(5), hold=30)

    def test_one_that_fails_holds_twice_as_long(self):
        assert attempted(TRIAL, Evidence.FAILING, at=5, reason="tls") == Unhealthy(
            since=after(5), failing_since=NOW, reason="tls", hold=60, until=after(65)
        )

    def test_no_hold_is_longer_than_the_longest(self):
        state = attempted(replace(TRIAL, hold=1000), Evidence.FAILING)

        assert state.hold == 1800

    def test_a_probe_that_fails_holds_as_long_as_before(self):
        state = probed(TRIAL, succeeded=False, at=5)

        assert (state.hold, state.until, state.failing_since) == (30, after(35), NOW)

    def test_a_probe_that_succeeds_changes_nothing(self):
        assert probed(TRIAL, succeeded=True, at=5) is TRIAL

    @pytest.mark.parametrize("state", [FELL, TRIAL], ids=["unhealthy", "trial"])
    @pytest.mark.parametrize("evidence", [Evidence.WELL, Evidence.FAILING])
    def test_what_began_before_tells_nothing_new(self, state, evidence):
        assert attempted(state, evidence, at=5, began=-1) is state

    @pytest.mark.parametrize("state", [FELL, TRIAL], ids=["unhealthy", "trial"])
    def test_a_clock_that_was_set_back_freezes_nothing(self, state):
        assert isinstance(attempted(state, Evidence.WELL, at=-3600), Healthy)

    def test_a_delivery_that_arrives_at_an_unhealthy_endpoint_is_proof_enough(self):
        assert attempted(FELL, Evidence.WELL, at=5) == Healthy(since=after(5), hold=30)

    def test_one_that_fails_there_tells_nothing_new(self):
        assert attempted(FELL, Evidence.FAILING, at=5) is FELL


def test_flapping_is_held_ever_longer_up_to_the_cap():
    state, holds, at = Healthy(since=NOW), [], 0.0
    for _ in range(6):
        state = fail(state, 1, 2, 3, at=at)
        holds.append(state.hold)
        at += state.hold
        for _ in range(2):
            state = probed(state, succeeded=True, at=at)
        state = attempted(state, Evidence.WELL, at=at)
        at += 5

    assert holds == [30, 120, 480, 1800, 1800, 1800]


class Endpoints(RuleBasedStateMachine):
    """Endpoints of one subscription, treated as the workers treat them."""

    @initialize(
        count=st.integers(1, 4),
        failback=st.sampled_from(Failback),
        cap=st.sampled_from([5.0, 30.0, 1800.0]),
    )
    def begin(self, count, failback, cap):
        self.now, self.failback = NOW, failback
        self.thresholds = Thresholds(hold_cap=cap)
        self.states = [Healthy(since=NOW) for _ in range(count)]
        self.pinned = None
        self.active = None
        self.settle()

    def doors(self):
        return [
            Door(
                key=key,
                position=key,
                state=state,
                is_pinned=key == self.pinned,
                is_active=key == self.active,
            )
            for key, state in enumerate(self.states)
        ]

    def choose(self):
        return failover.choose(self.doors(), failback=self.failback)

    def settle(self):
        choice = self.choose()
        self.active = choice.active.key if choice.active else None

    def attempt(self, key, evidence, *, event=1, others=True, began=None):
        attempt = Attempted(
            began_at=began or self.now, event=event, evidence=evidence, reason="timeout"
        )
        self.states[key] = health.attempted(
            self.states[key],
            attempt,
            others_wait=others,
            now=self.now,
            thresholds=self.thresholds,
        )
        self.settle()

    def probe(self, key, *, succeeded):
        self.states[key] = health.probed(
            self.states[key],
            succeeded=succeeded,
            reason="tls",
            now=self.now,
            thresholds=self.thresholds,
        )
        self.settle()

    @rule(
        evidence=st.sampled_from(Evidence), event=st.integers(1, 3), others=st.booleans(),
        age=st.floats(0, 60),
    )  # fmt: skip
    def deliver(self, evidence, event, others, age):
        choice = self.choose()
        door = choice.trial or choice.active
        if door is not None:
            began = self.now - timedelta(seconds=age)
            self.attempt(door.key, evidence, event=event, others=others, began=began)

    @rule(key=st.integers(0, 3), succeeded=st.booleans())
    def check(self, key, succeeded):
        if key < len(self.states):
            self.probe(key, succeeded=succeeded)

    @rule(seconds=st.one_of(st.floats(0, 100), st.sampled_from([3600.0, -3600.0])))
    def wait(self, seconds):
        self.now += timedelta(seconds=seconds)

    @rule(key=st.none() | st.integers(0, 3))
    def pin(self, key):
        self.pinned = key if key is None or key < len(self.states) else None
        self.settle()

    @invariant()
    def at_most_one_is_active(self):
        assert sum(door.is_active for door in self.doors()) <= 1

    @invariant()
    def the_active_one_is_healthy_or_pinned(self):
        healthy = [key for key, one in enumerate(self.states) if isinstance(one, Healthy)]
        if self.pinned is not None:
            assert self.active == self.pinned
        elif healthy:
            assert self.active in healthy
            assert self.failback is Failback.STAY or self.active == healthy[0]
        else:
            assert self.active is None

    @invariant()
    def holds_are_bounded(self):
        longest = max(self.thresholds.hold, self.thresholds.hold_cap)
        for state in self.states:
            assert state.hold <= longest
            if isinstance(state, Unhealthy):
                # Measured from the fall: the clock may have been set back since.
                assert state.until <= state.since + timedelta(seconds=longest)

    def teardown(self):
        """From any state recovery is reachable."""
        if not hasattr(self, "states"):
            return
        self.pinned = None
        for key in range(len(self.states)):
            self.probe(key, succeeded=True)
        self.now += timedelta(seconds=max(self.thresholds.hold, self.thresholds.hold_cap))
        for _ in range(2):
            for key in range(len(self.states)):
                self.probe(key, succeeded=True)
        for key, state in enumerate(self.states):
            if not isinstance(state, Healthy):
                assert isinstance(state, Trial)
                self.attempt(key, Evidence.WELL)
        assert all(isinstance(state, Healthy) for state in self.states)
        self.failback = Failback.AUTOMATIC
        self.settle()
        assert self.active == 0


TestEndpoints = Endpoints.TestCase
TestEndpoints.settings = hypothesis_settings(
    max_examples=150, stateful_step_count=40, deadline=None
)

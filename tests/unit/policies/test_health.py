"""Whether an endpoint may be called: every move, and what holds whatever happens."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from django_webhooks.policies import failover, health
from django_webhooks.policies.failover import Candidate, Failback
from django_webhooks.policies.health import (
    Attempted,
    Evidence,
    Healthy,
    StatusPolicy,
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
    state,
    evidence,
    *,
    event=1,
    at=1.0,
    known=None,
    others=True,
    reason="http_500",
    by=THRESHOLDS,
    is_first=False,
):
    attempt = Attempted(
        known_since=state.since if known is None else after(known),
        event=event,
        evidence=evidence,
        reason=reason,
        is_first=is_first,
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
        ("http_101", Evidence.FAILING),
        ("http_600", Evidence.FAILING),
        ("http_999", Evidence.FAILING),
        ("proxy", Evidence.FAILING),
        ("http_400", Evidence.REFUSED),
        ("http_401", Evidence.REFUSED),
        ("http_403", Evidence.REFUSED),
        ("http_404", Evidence.REFUSED),
        ("http_408", Evidence.REFUSED),
        ("http_410", Evidence.REFUSED),
        ("http_422", Evidence.REFUSED),
        ("http_425", Evidence.REFUSED),
        ("http_304", Evidence.REFUSED),
        ("redirect", Evidence.REFUSED),
        ("clock", Evidence.REFUSED),
        ("receiver_refused", Evidence.REFUSED),
        ("http_429", Evidence.NOTHING),
        ("internal", Evidence.NOTHING),
    ],
)
def test_what_a_failure_says_of_its_endpoint(reason, expected):
    assert health.evidence_of(succeeded=False, reason=reason) is expected
    # A receiver that refuses events one by one tells by 5xx and silence alone.
    lenient = health.evidence_of(
        succeeded=False, reason=reason, statuses=StatusPolicy.SERVER_ERRORS
    )
    assert lenient is (expected if expected is Evidence.FAILING else Evidence.NOTHING)


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
        assert (state.failures, state.event, state.events_differ) == (0, None, False)
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


class TestRefusals:
    """Answers that may speak of the event: 3xx and 4xx."""

    @pytest.mark.parametrize("others", [True, False], ids=["others wait", "nothing else waits"])
    @pytest.mark.parametrize(
        ("run", "falls"),
        [
            pytest.param("r1 " * 12, False, id="one event, twelve times"),
            pytest.param("r1 r2", False, id="two are one too few"),
            pytest.param("r1 r2 r3", True, id="three events"),
            pytest.param("r1 r1 r2", True, id="two events"),
            pytest.param("r1 r2 r1", True, id="two events in turn"),
            pytest.param("r1 r1 r1 r1 r2", True, id="one again and again, then another"),
            pytest.param("r1 r1 w2 r1 r1 w3 r1 r1", False, id="one while others arrive"),
            pytest.param("r1 r2 w3 r1 r2 w4 r1 r2", False, id="two while others arrive"),
            pytest.param("r1 n2 n3 n4", False, id="load is none"),
            pytest.param("r1 f2 f3", True, id="beside silence"),
            pytest.param("f1 r1 r1 r1", False, id="one event, silence once"),
            pytest.param("f1 f1 r1 r1", False, id="one event, silence twice"),
        ],
    )  # fmt: skip
    def test_it_takes_two_events(self, run, falls, others):
        assert isinstance(self.after(run, others=others), Unhealthy) is falls

    def test_silence_of_one_event_counts_beside_its_refusals(self):
        assert isinstance(self.after("r1 r1 f1 f1 f1", others=False), Unhealthy)
        assert isinstance(self.after("r1 r1 f1 f1 f1", others=True), Healthy)

    @pytest.mark.parametrize("fall", [1, 2, 3, 5])
    def test_it_takes_two_events_whatever_the_threshold(self, fall):
        by = Thresholds(fall=fall, window_attempts=1)

        assert isinstance(self.after("r1 " * 20, others=False, by=by), Healthy)
        assert isinstance(self.after("r1 r2 r3 r4 r5", others=False, by=by), Unhealthy)

    def test_a_success_forgets_what_was_refused(self):
        state = self.after("r1 f2 w3", others=True)

        assert (state.failures, state.refusals, state.event) == (0, 0, None)

    def test_an_event_counts_once_in_the_window(self):
        """One event, tried every second, is refused each time; as many others arrive."""
        state = Healthy(since=NOW)
        for number in range(59):
            poison = number % 2 == 0
            state = attempted(
                state,
                Evidence.REFUSED if poison else Evidence.WELL,
                event=0 if poison else number,
                at=number,
                is_first=number == 0 or not poison,
            )

        assert isinstance(state, Healthy)
        assert (state.window_failures, state.window_attempts) == (1, 30)

    def test_half_of_twenty_events_within_a_minute(self):
        state = Healthy(since=NOW)
        for number in range(20):
            evidence = Evidence.REFUSED if number % 2 else Evidence.WELL
            state = attempted(state, evidence, event=number, at=number, is_first=True)

        assert isinstance(state, Unhealthy)

    @pytest.mark.parametrize(
        ("run", "expected"),
        [
            pytest.param("R1", Unhealthy, id="a new event"),
            pytest.param("r1", Trial, id="one that was refused before"),
            pytest.param("r1 r1 r1", Trial, id="the same again and again"),
            pytest.param("r1 r2", Unhealthy, id="two that were refused before"),
            pytest.param("r1 R2", Unhealthy, id="one that was, and a new one"),
            pytest.param("r1 n2", Trial, id="load"),
            pytest.param("r1 f1", Unhealthy, id="silence"),
            pytest.param("f1", Unhealthy, id="silence at once"),
            pytest.param("r1 w2", Healthy, id="another arrives"),
            pytest.param("r1 w1", Healthy, id="it arrives after all"),
        ],
    )
    def test_a_trial(self, run, expected):
        state = self.after(run, state=TRIAL)

        assert type(state) is expected
        if expected is Unhealthy:
            assert (state.hold, state.failing_since) == (60, NOW)

    @pytest.mark.parametrize("state", [FELL, replace(FELL, probe_successes=1)])
    def test_what_is_unhealthy_stays_so(self, state):
        assert self.after("r1 R2 n3", state=state) is state

    def test_probes_do_not_undo_what_deliveries_said(self):
        state = self.after("r1 r2", others=True)
        for at in range(3, 9):
            state = probed(state, succeeded=True, at=at)

        assert (type(state), state.failures) == (Healthy, 2)
        assert isinstance(attempted(state, Evidence.REFUSED, event=3, at=9), Unhealthy)

    @staticmethod
    def after(run, *, state=None, others=True, by=THRESHOLDS):
        """``"r1 R2 w3"``: event 1 is refused, 2 at its first attempt, 3 arrives; f: silence."""
        letters = {
            "r": Evidence.REFUSED,
            "f": Evidence.FAILING,
            "w": Evidence.WELL,
            "n": Evidence.NOTHING,
        }
        state = state or Healthy(since=NOW)
        for at, (letter, *event) in enumerate(run.split(), start=1):
            state = attempted(
                state,
                letters[letter.lower()],
                event=int("".join(event)),
                at=at,
                others=others,
                by=by,
                is_first=letter == "R",
            )
        return state


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

        assert (type(state), state.probe_successes) == (Unhealthy, 1)

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

    @pytest.mark.parametrize(
        "state", [FELL, TRIAL, Healthy(since=NOW)], ids=["unhealthy", "trial", "healthy"]
    )
    @pytest.mark.parametrize("evidence", [Evidence.WELL, Evidence.FAILING])
    @pytest.mark.parametrize("known", [-1, 1], ids=["before", "by a clock that was set back"])
    def test_who_knew_another_state_tells_nothing_of_this_one(self, state, evidence, known):
        assert attempted(state, evidence, at=5, known=known) is state

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

    def candidates(self):
        return [
            Candidate(
                key=key,
                position=key,
                state=state,
                is_pinned=key == self.pinned,
                is_active=key == self.active,
            )
            for key, state in enumerate(self.states)
        ]

    def choose(self):
        return failover.choose(self.candidates(), failback=self.failback)

    def settle(self):
        choice = self.choose()
        self.active = choice.active.key if choice.active else None

    def attempt(self, key, evidence, *, event=1, others=True, known=None):
        attempt = Attempted(
            known_since=known or self.states[key].since,
            event=event,
            evidence=evidence,
            reason="timeout",
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
        age=st.just(0) | st.floats(0.001, 60),
    )  # fmt: skip
    def deliver(self, evidence, event, others, age):
        choice = self.choose()
        candidate = choice.trial or choice.active
        if candidate is not None:
            known = candidate.state.since - timedelta(seconds=age)
            before = self.states[candidate.key]
            self.attempt(candidate.key, evidence, event=event, others=others, known=known)
            assert not age or self.states[candidate.key] is before

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
        assert sum(candidate.is_active for candidate in self.candidates()) <= 1

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
    # Half as many again as any other search has, under each profile.
    max_examples=hypothesis_settings().max_examples * 3 // 2,
    stateful_step_count=40,
    deadline=None,
)

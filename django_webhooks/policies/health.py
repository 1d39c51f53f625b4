"""Whether an endpoint may be called: a pure function of its state and of the evidence.

    Healthy ──failures in a row, or a share of a window──────────► Unhealthy
    Unhealthy ──probes succeed in a row, and the hold is over────► Trial
    Trial ──one real delivery succeeds───────────────────────────► Healthy
    Trial ──it fails─────────────────────────────────────────────► Unhealthy, held twice as long
    Trial ──a probe fails────────────────────────────────────────► Unhealthy, held as long as before
    Unhealthy ──a real delivery succeeds (pinned, or mode each)──► Healthy

Evidence is passive (attempts) and active (probes). What tells nothing of the endpoint, such as a
429 or a 404, changes nothing. An endpoint that falls again soon after it recovered is held four
times as long as before, because all the traffic had come back to it.
"""

from __future__ import annotations

import enum
from collections.abc import Hashable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

#: An endpoint that stays healthy for so many times its last hold is not flapping.
STABLE_HOLDS = 10
#: How many times longer an endpoint is held whose trial failed.
TRIAL_FACTOR = 2
#: How many times longer an endpoint is held that fell again soon after it recovered.
RELAPSE_FACTOR = 4

#: Reasons of attempts that say that the endpoint did not answer as it should.
NO_ANSWER = frozenset(
    {"timeout", "connect_timeout", "connection", "tls", "dns", "protocol", "blocked", "proxy"}
)


class Evidence(enum.Enum):
    """What one attempt says of its endpoint."""

    WELL = "well"
    FAILING = "failing"
    #: An answer that speaks of the event, of the load, or of us.
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """When an endpoint falls and rises; times in seconds."""

    fall: int = 3
    rise: int = 2
    window: float = 60.0
    window_attempts: int = 20
    window_share: float = 0.5
    hold: float = 30.0
    hold_cap: float = 1800.0

    def bounded(self, hold: float) -> float:
        """Return the hold, at most the longest one."""
        return min(hold, max(self.hold, self.hold_cap))


@dataclass(frozen=True, slots=True, kw_only=True)
class Healthy:
    """It may be called.

    ``failures`` in a row came from ``event``, or from several where ``is_mixed``. ``hold`` is how
    long it was held when it was last unhealthy, 0 where it never was.
    """

    since: datetime
    failures: int = 0
    event: Hashable = None
    is_mixed: bool = False
    probe_failures: int = 0
    window_began: datetime | None = None
    window_attempts: int = 0
    window_failures: int = 0
    hold: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Unhealthy:
    """It is not called until its hold is over and probes succeed; failing ``since`` then."""

    since: datetime
    failing_since: datetime
    reason: str
    hold: float
    until: datetime
    rises: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One real delivery at a time may try it (half open)."""

    since: datetime
    failing_since: datetime
    reason: str
    hold: float


State = Healthy | Unhealthy | Trial


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempted:
    """One attempt as evidence: when it began, of which event, and what it says."""

    began_at: datetime
    event: Hashable
    evidence: Evidence
    reason: str = ""


def evidence_of(*, succeeded: bool, reason: str) -> Evidence:
    """Return what an attempt says of its endpoint; ``reason`` is that of its outcome."""
    if succeeded:
        return Evidence.WELL
    if reason in NO_ANSWER or (reason.startswith("http_5") and len(reason) == len("http_500")):
        return Evidence.FAILING
    return Evidence.NOTHING


def attempted(
    state: State, attempt: Attempted, *, others_wait: bool, now: datetime, thresholds: Thresholds
) -> State:
    """Return the state after an attempt.

    ``others_wait`` says whether deliveries of other events wait for the same subscription: while
    they do, one event alone does not make an endpoint fall, since it may fail by its own content.
    """
    if attempt.evidence is Evidence.NOTHING:
        return state
    succeeded = attempt.evidence is Evidence.WELL
    match state:
        case Healthy():
            counted = _count(state, attempt, now=now, thresholds=thresholds)
            if not succeeded and _falls(counted, others_wait=others_wait, thresholds=thresholds):
                return _fall(counted, attempt.reason, now=now, thresholds=thresholds)
            return counted
        case Unhealthy() | Trial() if _is_older(attempt, state, now=now):
            return state  # It was under way when the state changed, and tells what is known.
        case Unhealthy() | Trial() if succeeded:
            return Healthy(since=now, hold=state.hold)
        case Trial():
            return _held(
                state, thresholds.bounded(state.hold * TRIAL_FACTOR), attempt.reason, now=now
            )
    return state


def probed(
    state: State, *, succeeded: bool, reason: str = "", now: datetime, thresholds: Thresholds
) -> State:
    """Return the state after a probe."""
    match state:
        case Healthy() if succeeded:
            return replace(state, probe_failures=0)
        case Healthy():
            counted = replace(state, probe_failures=state.probe_failures + 1)
            if counted.probe_failures >= thresholds.fall:
                return _fall(counted, reason, now=now, thresholds=thresholds)
            return counted
        case Unhealthy() if not succeeded:
            return replace(_unfrozen(state, now=now), rises=0)
        case Unhealthy():
            return _rise(
                replace(_unfrozen(state, now=now), rises=state.rises + 1),
                rise=thresholds.rise,
                now=now,
            )
        case Trial() if not succeeded:
            return _held(state, state.hold, reason, now=now)
    return state


def waited(state: State, *, now: datetime) -> State:
    """Return the state of an endpoint that is not probed, after time has passed."""
    if isinstance(state, Unhealthy):
        return _rise(_unfrozen(state, now=now), rise=0, now=now)
    return state


def _count(state: Healthy, attempt: Attempted, *, now: datetime, thresholds: Thresholds) -> Healthy:
    failed = attempt.evidence is Evidence.FAILING
    began = state.window_began
    # A clock that was set back leaves a window that began in the future.
    is_fresh = began is None or not 0 <= (now - began).total_seconds() < thresholds.window
    counted = replace(
        state,
        window_began=now if is_fresh else began,
        window_attempts=1 if is_fresh else state.window_attempts + 1,
        window_failures=int(failed) if is_fresh else state.window_failures + int(failed),
    )
    if not failed:
        return replace(counted, failures=0, event=None, is_mixed=False)
    return replace(
        counted,
        failures=state.failures + 1,
        event=state.event if state.failures else attempt.event,
        is_mixed=state.is_mixed or (state.failures > 0 and state.event != attempt.event),
    )


def _falls(state: Healthy, *, others_wait: bool, thresholds: Thresholds) -> bool:
    if state.failures >= thresholds.fall and (state.is_mixed or not others_wait):
        return True
    return (
        state.window_attempts >= thresholds.window_attempts
        and state.window_failures >= thresholds.window_share * state.window_attempts
    )


def _fall(state: Healthy, reason: str, *, now: datetime, thresholds: Thresholds) -> Unhealthy:
    stable = timedelta(seconds=state.hold * STABLE_HOLDS)
    is_relapse = state.hold > 0 and now - state.since < stable
    hold = thresholds.bounded(state.hold * RELAPSE_FACTOR) if is_relapse else thresholds.hold
    return Unhealthy(
        since=now,
        failing_since=now,
        reason=reason,
        hold=hold,
        until=now + timedelta(seconds=hold),
    )


def _held(state: Trial, hold: float, reason: str, *, now: datetime) -> Unhealthy:
    return Unhealthy(
        since=now,
        failing_since=state.failing_since,
        reason=reason,
        hold=hold,
        until=now + timedelta(seconds=hold),
    )


def _rise(state: Unhealthy, *, rise: int, now: datetime) -> Unhealthy | Trial:
    if state.rises < rise or now < state.until:
        return state
    return Trial(since=now, failing_since=state.failing_since, reason=state.reason, hold=state.hold)


def _unfrozen(state: Unhealthy, *, now: datetime) -> Unhealthy:
    # A clock that was set back must not hold an endpoint for longer than its hold.
    return replace(state, until=min(state.until, now + timedelta(seconds=state.hold)))


def _is_older(attempt: Attempted, state: Unhealthy | Trial, *, now: datetime) -> bool:
    # A state since the future is one that a clock was set back over.
    return attempt.began_at < state.since <= now

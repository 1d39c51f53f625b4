"""Whether an endpoint may be called: a pure function of its state and of the evidence.

    Healthy ──failures in a row, or a share of a window──────────► Unhealthy
    Unhealthy ──probes succeed in a row, and the hold is over────► Trial
    Trial ──one real delivery succeeds───────────────────────────► Healthy
    Trial ──it fails─────────────────────────────────────────────► Unhealthy, held twice as long
    Trial ──a probe fails────────────────────────────────────────► Unhealthy, held as long as before
    Unhealthy ──a real delivery succeeds (pinned, or mode each)──► Healthy

Evidence is passive (attempts) and active (probes). The question is whether deliveries arrive, so
each attempt that does not succeed is evidence against its endpoint, but a 429, which is load, and
our own faults. Which statuses count is the subscription's choice (:class:`StatusPolicy`).

A refusal (3xx, 4xx) may speak of the event as well as of the endpoint. So only refusals of at least
two different events make an endpoint fall, whatever else waits, and end a trial:

    Healthy   one event is refused, however often     stays healthy
    Trial     an event is refused at its first attempt, or two are     held twice as long
    Trial     an event that was refused before is refused again        stays on trial

Silence and 5xx make an endpoint fall by one event alone where nothing else waits.

An attempt is evidence of the state in which its sender chose the endpoint, and of no other.
One that was chosen before a fall, though it began after it, ends no hold; one that was chosen
before a recovery does not make the endpoint fall again.

A probe that succeeds does not undo what deliveries said: it leads to a trial at the most. An
endpoint that falls again soon after it recovered is held four times as long as before, because all
the traffic had come back to it.
"""

from __future__ import annotations

import enum
from collections.abc import Hashable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from .reasons import HttpReason, Reason

#: Seconds over which the share of failing attempts is counted: long enough for steady traffic to
#: tell, and short enough that old failures are forgotten before they count against a new fault.
WINDOW_SECONDS = 60.0
#: Attempts within the window before their share counts: a few failures prove nothing.
WINDOW_ATTEMPTS = 20
#: Share of failing attempts within the window at which an endpoint falls: by then a backup is
#: likely to do better.
WINDOW_SHARE = 0.5
#: How many times longer than the first hold the longest one is: half an hour for one of 30 s, for
#: which a receiver that has recovered may wait.
HOLD_CAP_FACTOR = 60
#: An endpoint that stays healthy for so many times its last hold is not flapping.
STABLE_HOLDS = 10
#: How many times longer an endpoint is held whose trial failed.
TRIAL_FACTOR = 2
#: How many times longer an endpoint is held that fell again soon after it recovered.
RELAPSE_FACTOR = 4

#: Reasons of attempts that no answer came of. ``blocked`` is one: a URL or an address that our own
#: rules refuse takes no deliveries until somebody changes it, and another endpoint may.
NO_ANSWER = frozenset(
    {
        Reason.TIMEOUT,
        Reason.CONNECT_TIMEOUT,
        Reason.CONNECTION,
        Reason.TLS,
        Reason.DNS,
        Reason.PROTOCOL,
        Reason.BLOCKED,
        Reason.PROXY,
    }
)
#: Reasons that say nothing of the endpoint: load (RFC 6585 section 4), and our own faults.
NOT_EVIDENCE = frozenset({HttpReason(429), Reason.INTERNAL})


class StatusPolicy(enum.StrEnum):
    """Which answers count against an endpoint."""

    #: All that do not say that the delivery was taken.
    NON_2XX = "non_2xx"
    #: 5xx and silence: the receiver refuses events one by one, by 4xx or 3xx.
    SERVER_ERRORS = "5xx"


class Evidence(enum.Enum):
    """The evidence of one attempt about its endpoint."""

    WELL = "well"
    #: Silence, or an answer that speaks of the endpoint.
    FAILING = "failing"
    #: An answer that may speak of the event as well: one event alone proves nothing.
    REFUSED = "refused"
    #: It speaks of the load, or of us.
    NOTHING = "nothing"

    @property
    def is_against(self) -> bool:
        """Whether it counts against the endpoint."""
        return self in (Evidence.FAILING, Evidence.REFUSED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """When an endpoint falls and rises; times in seconds."""

    fall: int = 3
    rise: int = 2
    window: float = WINDOW_SECONDS
    window_attempts: int = WINDOW_ATTEMPTS
    window_share: float = WINDOW_SHARE
    hold: float = 30.0
    hold_cap: float = 30.0 * HOLD_CAP_FACTOR

    def bounded(self, hold: float) -> float:
        """Return the hold, at most the longest one."""
        return min(hold, max(self.hold, self.hold_cap))


@dataclass(frozen=True, slots=True, kw_only=True)
class Healthy:
    """The endpoint may be called.

    ``failures`` in a row, ``refusals`` of which were refusals, came from ``event``, or from several
    where ``events_differ``. ``hold`` is how long it was held when it was last unhealthy, 0 where it
    never was.
    """

    since: datetime
    failures: int = 0
    refusals: int = 0
    event: Hashable = None
    events_differ: bool = False
    probe_failures: int = 0
    window_began: datetime | None = None
    window_attempts: int = 0
    window_failures: int = 0
    hold: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Unhealthy:
    """The endpoint is not called until its hold is over and probes succeed."""

    since: datetime
    failing_since: datetime
    reason: str
    hold: float
    until: datetime
    probe_successes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One real delivery at a time may try it (half open).

    ``event`` is one that was refused meanwhile, which proves nothing by itself.
    """

    since: datetime
    failing_since: datetime
    reason: str
    hold: float
    event: Hashable = None


State = Healthy | Unhealthy | Trial


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempted:
    """One attempt as evidence: of which state and event, and what it says.

    ``known_since`` is the ``since`` of the state in which the endpoint was chosen for it. Clocks
    tell less: a sender chooses some time before its request begins, and another records the fall
    some time after it decided it. ``is_first`` says that its delivery had not been attempted
    before. ``is_outdated`` says that a delivery succeeded after the attempt had ended: workers
    record in groups, each its own.
    """

    known_since: datetime
    event: Hashable
    evidence: Evidence
    reason: str = ""
    is_first: bool = False
    is_outdated: bool = False


def evidence_of(
    *, succeeded: bool, reason: str, statuses: StatusPolicy = StatusPolicy.NON_2XX
) -> Evidence:
    """Return what an attempt says of its endpoint; ``reason`` is that of its outcome."""
    if succeeded:
        return Evidence.WELL
    if reason in NOT_EVIDENCE:
        return Evidence.NOTHING
    if not is_refusal(reason):
        return Evidence.FAILING
    return Evidence.REFUSED if statuses is StatusPolicy.NON_2XX else Evidence.NOTHING


def is_refusal(reason: str) -> bool:
    """Say whether a failure may speak of the event: 3xx, 4xx, or ``webhook-no-retry``.

    A status that is no answer to a POST (1xx, 600 and above) is like one that is not HTTP.
    """
    if reason in NO_ANSWER or reason in NOT_EVIDENCE:
        return False
    return not reason.startswith("http_") or reason.startswith(("http_3", "http_4"))


def attempted(
    state: State, attempt: Attempted, *, others_wait: bool, now: datetime, thresholds: Thresholds
) -> State:
    """Return the state after an attempt.

    ``others_wait`` says whether deliveries of other events wait for the same subscription: while
    they do, one event alone does not make an endpoint fall, since it may fail by its own content.
    """
    if attempt.evidence is Evidence.NOTHING or attempt.known_since != state.since:
        return state
    succeeded = attempt.evidence is Evidence.WELL
    match state:
        case Healthy():
            counted = _count(state, attempt, now=now, thresholds=thresholds)
            if not succeeded and _falls(
                counted, attempt, others_wait=others_wait, thresholds=thresholds
            ):
                return _fall(counted, attempt.reason, now=now, thresholds=thresholds)
            return counted
        case Unhealthy() | Trial() if succeeded:
            return Healthy(since=now, hold=state.hold)
        case Trial() if _proves_nothing(attempt, state):
            return replace(state, event=attempt.event)
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
            return replace(_unfrozen(state, now=now), probe_successes=0)
        case Unhealthy():
            return _rise(
                replace(_unfrozen(state, now=now), probe_successes=state.probe_successes + 1),
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
    counted = _count_in_window(state, attempt, now=now, thresholds=thresholds)
    if not attempt.evidence.is_against:
        return replace(counted, failures=0, refusals=0, event=None, events_differ=False)
    if attempt.is_outdated:
        # The attempt is not in a row with failures after that success.
        return counted
    return replace(
        counted,
        failures=state.failures + 1,
        refusals=state.refusals + int(attempt.evidence is Evidence.REFUSED),
        event=state.event if state.failures else attempt.event,
        events_differ=state.events_differ or (state.failures > 0 and state.event != attempt.event),
    )


def _count_in_window(
    state: Healthy, attempt: Attempted, *, now: datetime, thresholds: Thresholds
) -> Healthy:
    if attempt.evidence is Evidence.REFUSED and not attempt.is_first:
        # Each event that is refused counts once, however often it is tried.
        return state
    failed, began = attempt.evidence.is_against, state.window_began
    # A clock that was set back leaves a window that began in the future.
    is_fresh = began is None or not 0 <= (now - began).total_seconds() < thresholds.window
    return replace(
        state,
        window_began=now if is_fresh else began,
        window_attempts=1 if is_fresh else state.window_attempts + 1,
        window_failures=int(failed) if is_fresh else state.window_failures + int(failed),
    )


def _falls(
    state: Healthy, attempt: Attempted, *, others_wait: bool, thresholds: Thresholds
) -> bool:
    if state.events_differ and state.failures >= thresholds.fall:
        return True
    # One event alone: what was refused may be its own fault.
    if not others_wait and state.failures - state.refusals >= thresholds.fall:
        return True
    if attempt.evidence is Evidence.REFUSED and state.window_failures < 2:
        return False
    return (
        state.window_attempts >= thresholds.window_attempts
        and state.window_failures >= thresholds.window_share * state.window_attempts
    )


def _proves_nothing(attempt: Attempted, state: Trial) -> bool:
    """Say whether a failed trial may be the fault of one event, refused here before."""
    if attempt.evidence is not Evidence.REFUSED or attempt.is_first:
        return False
    return state.event is None or state.event == attempt.event


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
    if state.probe_successes < rise or now < state.until:
        return state
    return Trial(since=now, failing_since=state.failing_since, reason=state.reason, hold=state.hold)


def _unfrozen(state: Unhealthy, *, now: datetime) -> Unhealthy:
    # A clock that was set back must not hold an endpoint for longer than its hold.
    return replace(state, until=min(state.until, now + timedelta(seconds=state.hold)))

"""When to try again: a pure function of what happened, the policy, the clock and a random number.

The wait before retry ``n`` (1-based) is ``base * factor ** (n - 1)``, at most ``cap``, spread over
±``jitter``. With the defaults (5 s, factor 6, cap 12 h, 12 attempts)::

    5 s, 30 s, 3 min, 18 min, 1 h 48, 10 h 48, 12 h, 12 h, 12 h, 12 h, 12 h      about three days
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from datetime import datetime, timedelta

from .outcome import Outcome, Verdict
from .reasons import MaybeReason, Reason

#: Part of each wait that is random: 0.2 spreads it over ±20 %, so that deliveries that failed
#: together do not come back together.
JITTER = 0.2
#: Longest wait, in seconds, that a receiver's Retry-After can ask for: a day, so that a receiver
#: that asks for a year is tried again before the event is too old.
RETRY_AFTER_CAP_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often and how long to try; all times in seconds."""

    attempts: int = 12
    base: float = 5.0
    factor: float = 6.0
    cap: float = 43_200.0
    jitter: float = JITTER
    retry_after_cap: float = RETRY_AFTER_CAP_SECONDS
    max_age: float = 7 * 86_400.0

    def wait(self, retry: int, *, random: float) -> float:
        """Return the seconds before the given retry (1-based); ``random`` is in [0, 1)."""
        try:
            wait = min(self.cap, self.base * self.factor ** (retry - 1))
        except OverflowError:
            wait = self.cap
        return wait * (1 + self.jitter * (2 * random - 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The delivery arrived."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveUp:
    """The delivery is not tried again, and why."""

    reason: MaybeReason


@dataclass(frozen=True, slots=True, kw_only=True)
class TryAgain:
    """The delivery is tried again at a moment, and why the last attempt failed.

    ``to`` is the endpoint that it is to be tried at, None for the one that is active then.
    """

    at: datetime
    reason: MaybeReason
    to: Hashable = None


Decision = Done | GiveUp | TryAgain


def decide(
    outcome: Outcome,
    *,
    attempts: int,
    policy: RetryPolicy,
    recorded_at: datetime,
    now: datetime,
    random: float,
    endpoint_count: int = 1,
) -> Decision:
    """Return what happens next after ``attempts`` attempts, the one just made included.

    ``recorded_at`` is when the event was recorded, ``random`` a number in [0, 1). A moment that the
    receiver asked for is kept, up to ``retry_after_cap`` from now. Where each attempt goes to the
    next of several endpoints (``endpoint_count``), a round of them counts as one attempt, and
    within it nothing waits. An endpoint that is gone costs the delivery nothing: it is due at once,
    wherever it goes then.
    """
    match outcome.verdict:
        case Verdict.SUCCEEDED:
            return Done()
        case Verdict.FINAL if outcome.is_for_all or attempts % endpoint_count == 0:
            return GiveUp(reason=outcome.reason)
        case Verdict.RETRY if outcome.endpoint_gone:
            return TryAgain(at=now, reason=outcome.reason)
    if attempts >= policy.attempts * endpoint_count:
        return GiveUp(reason=outcome.reason)
    if attempts % endpoint_count:
        return TryAgain(at=now, reason=outcome.reason)
    at = now + timedelta(seconds=policy.wait(attempts // endpoint_count, random=random))
    if outcome.retry_after is not None:
        latest = now + timedelta(seconds=policy.retry_after_cap)
        at = max(at, min(outcome.retry_after, latest))
    if at > recorded_at + timedelta(seconds=policy.max_age):
        return GiveUp(reason=Reason.EXPIRED)
    return TryAgain(at=at, reason=outcome.reason)

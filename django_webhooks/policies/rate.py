"""How many requests may go: a rate kept by one moment, and a bound on what is in flight.

The rate is that of the generic cell rate algorithm: its whole state is the moment at which the
traffic would end if each request took ``1 / rate`` seconds. That moment may lie ahead of now by as
much as a burst takes. In any stretch of ``t`` seconds no more than ``burst + rate * t`` requests
go, and a burst is what one second allows, at least one request.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta

#: Seconds by which one may go too early: moments are whole microseconds, and errors add up to that.
EPSILON = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Requests a second, and requests in flight at once; None for no limit."""

    rate: float | None = None
    in_flight: int | None = None

    def __bool__(self) -> bool:
        return self.rate is not None or self.in_flight is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """How many may go now, the state after they went, and when the next one may."""

    count: int
    state: datetime
    next_at: datetime


def decide(state: datetime | None, *, wanted: int, rate: float, now: datetime) -> Granted:
    """Let up to ``wanted`` requests go at the moment ``now``."""
    period, tolerance = 1 / rate, _tolerance(rate)
    ahead = _ahead(state, rate=rate, now=now)
    free = math.floor((tolerance - ahead + EPSILON) / period) + 1
    count = max(0, min(wanted, free))
    after = ahead + count * period
    return Granted(
        count=count,
        state=_later(now, after),
        next_at=_later(now, max(0.0, after - tolerance)),
    )


def reserve(
    state: datetime | None, *, count: int, rate: float, now: datetime, until: datetime
) -> tuple[list[datetime], datetime]:
    """Return the moments at which up to ``count`` requests may go, and the state after them.

    None is later than ``until``.
    """
    period, tolerance = 1 / rate, _tolerance(rate)
    # A reservation lies further ahead than a burst does.
    ahead = max(0.0, (state - now).total_seconds()) if state is not None else 0.0
    left = (until - now).total_seconds() + tolerance - ahead
    count = min(count, math.floor(left / period) + 1 if left >= 0 else 0)
    moments = [
        _later(now, max(0.0, ahead + index * period - tolerance)) for index in range(max(0, count))
    ]
    return moments, _later(now, ahead + len(moments) * period)


def _tolerance(rate: float) -> float:
    return (max(1.0, rate) - 1) / rate


def _ahead(state: datetime | None, *, rate: float, now: datetime) -> float:
    """Return by how much the state is ahead of now.

    One that is further ahead than a burst was left by a clock that was set back, or a lower rate.
    """
    if state is None:
        return 0.0
    return min(max(0.0, (state - now).total_seconds()), _tolerance(rate) + 1 / rate)


def _later(now: datetime, seconds: float) -> datetime:
    return now + timedelta(seconds=seconds)

"""Which endpoint of a subscription is active: a pure function of its candidates.

A candidate is an endpoint as far as this decision needs to know it. The active one is

1. the pinned one, whatever its health, until the pin is lifted;
2. in mode ``each`` the first in order, whatever its health;
3. with fail-back ``stay`` the one that is active now, while it is healthy;
4. the first in order that is healthy;
5. none: deliveries wait. A candidate on trial is tried with one delivery at a time.

Disabled endpoints are none.

A delivery may be sent to another endpoint out of turn, before the health of the active one asks for
a switch: where it would be given up, and where it was refused again and again. The other endpoint
may take it, and one event alone proves nothing against the active one (:func:`elsewhere`).
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass

from .health import Healthy, State, Trial


class Mode(enum.StrEnum):
    """When a delivery goes to another endpoint."""

    #: When the health of the endpoints asks for it.
    SWITCH = "switch"
    #: When its own last attempt failed.
    EACH = "each"


class Failback(enum.StrEnum):
    """The behaviour when an earlier endpoint is healthy again."""

    AUTOMATIC = "automatic"
    STAY = "stay"


class Cause(enum.StrEnum):
    """The kind of a switch."""

    FAILOVER = "failover"
    FAILBACK = "failback"
    OUTAGE = "outage"
    RECOVERY = "recovery"
    BY_HAND = "by_hand"


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An endpoint: its place in the order, its health, and whether staff pinned it."""

    key: Hashable
    position: int
    state: State
    is_pinned: bool = False
    is_active: bool = False

    @property
    def is_healthy(self) -> bool:
        """Whether it may be called freely."""
        return isinstance(self.state, Healthy)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The endpoints to use: the active one, and the one that is to be tried with a single
    delivery."""

    active: Candidate | None = None
    trial: Candidate | None = None


def choose(
    candidates: Sequence[Candidate],
    *,
    mode: Mode = Mode.SWITCH,
    failback: Failback = Failback.AUTOMATIC,
) -> Choice:
    """Return which of the enabled endpoints to use."""
    ordered = sorted(candidates, key=lambda candidate: candidate.position)
    pinned = _first(candidate for candidate in ordered if candidate.is_pinned)
    if pinned is not None:
        return Choice(active=pinned)
    if mode is Mode.EACH:
        return Choice(active=_first(ordered))
    healthy = [candidate for candidate in ordered if candidate.is_healthy]
    stays = _first(candidate for candidate in healthy if candidate.is_active)
    active = stays if failback is Failback.STAY and stays is not None else _first(healthy)
    on_trial = (candidate for candidate in ordered if isinstance(candidate.state, Trial))
    return Choice(
        active=active,
        trial=_first(
            candidate for candidate in on_trial if _would_win(candidate, active, failback=failback)
        ),
    )


def elsewhere(candidates: Iterable[Candidate], *, tried: Collection[Hashable]) -> Candidate | None:
    """Return the endpoint that a delivery may be sent to out of turn, if there is one.

    The first in order of the enabled endpoints that is healthy and was not tried with it. None
    while one is pinned: staff want the traffic there.
    """
    ordered = sorted(candidates, key=lambda candidate: candidate.position)
    if any(candidate.is_pinned for candidate in ordered):
        return None
    return _first(
        candidate for candidate in ordered if candidate.is_healthy and candidate.key not in tried
    )


def is_due_elsewhere(attempts: int, *, fall: int, is_ordered: bool) -> bool:
    """Say whether a delivery that was just refused is to be sent to another endpoint at once.

    ``attempts`` were made. In an order, what waits behind it cannot prove anything before it is
    over, so that it goes at once; else with as many failures as make an endpoint fall.
    """
    return attempts >= (1 if is_ordered else fall)


def cause(before: Candidate | None, after: Candidate | None, *, by_hand: bool) -> Cause:
    """Return what kind of switch leads from one active endpoint to another."""
    if by_hand:
        return Cause.BY_HAND
    if after is None:
        return Cause.OUTAGE
    if before is None:
        return Cause.RECOVERY
    return Cause.FAILBACK if after.position < before.position else Cause.FAILOVER


def _would_win(candidate: Candidate, active: Candidate | None, *, failback: Failback) -> bool:
    if active is None:
        return True
    return failback is Failback.AUTOMATIC and candidate.position < active.position


def _first(candidates: Iterable[Candidate]) -> Candidate | None:
    return next(iter(candidates), None)

"""Which endpoint of a subscription is active: a pure function of its doors.

A door is an endpoint as far as this decision needs to know it. The active one is

1. the pinned one, whatever its health, until the pin is lifted;
2. in mode ``each`` the first in order, whatever its health;
3. with fail-back ``stay`` the one that is active now, while it is healthy;
4. the first in order that is healthy;
5. none: deliveries wait. A door on trial is tried with one delivery at a time.

Disabled doors are none.
"""

from __future__ import annotations

import enum
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

from .health import Healthy, State, Trial


class Mode(enum.StrEnum):
    """When a delivery goes to another endpoint."""

    #: When the health of the endpoints asks for it.
    SWITCH = "switch"
    #: When its own last attempt failed.
    EACH = "each"


class Failback(enum.StrEnum):
    """What happens when an earlier endpoint is healthy again."""

    AUTOMATIC = "automatic"
    STAY = "stay"


class Cause(enum.StrEnum):
    """What kind of switch it was."""

    FAILOVER = "failover"
    FAILBACK = "failback"
    OUTAGE = "outage"
    RECOVERY = "recovery"
    BY_HAND = "by_hand"


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
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
    """The doors to use: the active one, and the one that is to be tried with a single delivery."""

    active: Door | None = None
    trial: Door | None = None


def choose(
    doors: Sequence[Door],
    *,
    mode: Mode = Mode.SWITCH,
    failback: Failback = Failback.AUTOMATIC,
) -> Choice:
    """Return which of the enabled doors to use."""
    ordered = sorted(doors, key=lambda door: door.position)
    pinned = _first(door for door in ordered if door.is_pinned)
    if pinned is not None:
        return Choice(active=pinned)
    if mode is Mode.EACH:
        return Choice(active=_first(ordered))
    healthy = [door for door in ordered if door.is_healthy]
    stays = _first(door for door in healthy if door.is_active)
    active = stays if failback is Failback.STAY and stays is not None else _first(healthy)
    on_trial = (door for door in ordered if isinstance(door.state, Trial))
    return Choice(
        active=active,
        trial=_first(door for door in on_trial if _would_win(door, active, failback=failback)),
    )


def cause(before: Door | None, after: Door | None, *, by_hand: bool) -> Cause:
    """Return what kind of switch leads from one active door to another."""
    if by_hand:
        return Cause.BY_HAND
    if after is None:
        return Cause.OUTAGE
    if before is None:
        return Cause.RECOVERY
    return Cause.FAILBACK if after.position < before.position else Cause.FAILOVER


def _would_win(door: Door, active: Door | None, *, failback: Failback) -> bool:
    if active is None:
        return True
    return failback is Failback.AUTOMATIC and door.position < active.position


def _first(doors: Iterable[Door]) -> Door | None:
    return next(iter(doors), None)

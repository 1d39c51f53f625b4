"""Send old events again: ``replay`` a few now, or ``start`` a bulk replay of many."""

from __future__ import annotations

from functools import partial
from uuid import UUID

from . import wakeups
from .commits import after_commit
from .models import BulkReplay
from .sending import database
from .sending.replays import ReplayOptions, Selection, candidates, replay, stop
from .sending.replays import start as _start

__all__ = ["ReplayOptions", "Selection", "candidates", "replay", "start", "stop"]


def start(
    selection: Selection,
    *,
    reason: str,
    by: str = "",
    replay_options: ReplayOptions | None = None,
    rate: int | None = None,
    token: UUID | None = None,
    using: str | None = None,
) -> BulkReplay:
    """Have the selected deliveries replayed in the background, and return the row that says so.

    ``reason`` and ``by`` are for people. ``rate`` is in deliveries a second, by default
    WEBHOOKS_REPLAY_RATE_PER_SECOND. The same ``token`` again returns the row that it made before: a
    second click replays nothing. A worker is told after the commit. Raise NothingToReplay, and
    ValueError where the endpoint is not one of their subscription.
    """
    using = using or database.alias()
    made = _start(
        selection,
        reason=reason,
        by=by,
        replay_options=replay_options,
        rate=rate,
        token=token,
        using=using,
    )
    after_commit(partial(wakeups.begin_replay, str(made.pk)), using=using)
    return made

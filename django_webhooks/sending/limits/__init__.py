"""Rate limits of subscriptions, held over all workers."""

from __future__ import annotations

from .limits import admit, lock, make_room, next_moment, note_forgotten, nudge, stop_pacing

__all__ = ["admit", "lock", "make_room", "next_moment", "note_forgotten", "nudge", "stop_pacing"]

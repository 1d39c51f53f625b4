"""Replays: old events sent again, one or many in the background."""

from __future__ import annotations

from .bulk import candidates, go_on, stalled, start, stop
from .selection import ARRIVED, MOMENTS, NOT_ARRIVED, Selection
from .single import ReplayOptions, replay

__all__ = [
    "ARRIVED",
    "MOMENTS",
    "NOT_ARRIVED",
    "ReplayOptions",
    "Selection",
    "candidates",
    "go_on",
    "replay",
    "stalled",
    "start",
    "stop",
]

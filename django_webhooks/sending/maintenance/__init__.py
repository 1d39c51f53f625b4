"""Maintenance: forgotten deliveries are released, old rows are removed."""

from __future__ import annotations

from .pruning import prune
from .release import cancel_orphans, count_due, nudge, release_forgotten, release_readable

__all__ = [
    "cancel_orphans",
    "count_due",
    "nudge",
    "prune",
    "release_forgotten",
    "release_readable",
]

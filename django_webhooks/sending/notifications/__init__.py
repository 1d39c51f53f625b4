"""Notifications: the recipients of changes, and the texts they get."""

from __future__ import annotations

from .mails import operators
from .notifications import are_pending, stand_in, tell, watch, watch_if_due

__all__ = ["are_pending", "operators", "stand_in", "tell", "watch", "watch_if_due"]

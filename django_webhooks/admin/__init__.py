"""The tables in Django's admin: subscriptions to edit, what became of events to look at."""

from __future__ import annotations

from .attempt import AttemptAdmin
from .delivery import DeliveryAdmin
from .event import EventAdmin
from .subscription import SubscriptionAdmin

__all__ = ["AttemptAdmin", "DeliveryAdmin", "EventAdmin", "SubscriptionAdmin"]

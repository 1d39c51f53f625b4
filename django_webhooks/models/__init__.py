"""The tables: who listens, what happened, what is on its way, and what became of it."""

from __future__ import annotations

from .attempt import Attempt
from .delivery import Delivery
from .endpoint import Endpoint
from .event import Event
from .subscription import EventTypePattern, Subscription

__all__ = ["Attempt", "Delivery", "Endpoint", "Event", "EventTypePattern", "Subscription"]

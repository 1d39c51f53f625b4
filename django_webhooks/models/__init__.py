"""The tables: who listens, what happened, what is on its way, and what became of it."""

from __future__ import annotations

from .attempt import Attempt
from .delivery import Delivery
from .endpoint import Endpoint
from .event import Event
from .health import Health
from .probe import Probe
from .signing_key import SigningKey
from .subscription import EventTypePattern, Subscription
from .switch import Switch

__all__ = [
    "Attempt",
    "Delivery",
    "Endpoint",
    "Event",
    "EventTypePattern",
    "Health",
    "Probe",
    "SigningKey",
    "Subscription",
    "Switch",
]

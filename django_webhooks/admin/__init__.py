"""The tables in Django's admin: subscriptions to edit, what became of events to look at."""

from __future__ import annotations

from .attempt import AttemptAdmin
from .delivery import DeliveryAdmin
from .endpoint import EndpointAdmin
from .event import EventAdmin
from .subscription import SubscriptionAdmin
from .switch import SwitchAdmin

__all__ = [
    "AttemptAdmin",
    "DeliveryAdmin",
    "EndpointAdmin",
    "EventAdmin",
    "SubscriptionAdmin",
    "SwitchAdmin",
]

"""The tables in Django's admin: subscriptions to edit, what became of events to look at."""

from __future__ import annotations

from .attempt import AttemptAdmin
from .bulk_replay import BulkReplayAdmin
from .delivery import DeliveryAdmin
from .endpoint import EndpointAdmin
from .event import EventAdmin
from .overview import OverviewAdmin
from .subscription import SubscriptionAdmin
from .switch import SwitchAdmin

__all__ = [
    "AttemptAdmin",
    "BulkReplayAdmin",
    "DeliveryAdmin",
    "EndpointAdmin",
    "EventAdmin",
    "OverviewAdmin",
    "SubscriptionAdmin",
    "SwitchAdmin",
]

"""The tables: who listens, what happened, what is on its way, and what became of it."""

from __future__ import annotations

# Tables that projects have nothing to do with: Django registers them.
from . import event_type_pattern, notification, rate_limit_state  # noqa: F401
from .attempt import Attempt
from .bulk_replay import BulkReplay
from .delivery import Delivery
from .endpoint import Endpoint
from .endpoint_health import EndpointHealth
from .event import Event
from .figures import heartbeat, overview_page, rollup  # noqa: F401
from .probe import Probe
from .signing_key import SigningKey
from .subscription import Subscription
from .switch import Switch

__all__ = [
    "Attempt",
    "BulkReplay",
    "Delivery",
    "Endpoint",
    "EndpointHealth",
    "Event",
    "Probe",
    "SigningKey",
    "Subscription",
    "Switch",
]

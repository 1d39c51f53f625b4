"""The tables: who listens, what happened, what is on its way, and what became of it."""

from __future__ import annotations

from .accepted_finding import AcceptedFinding
from .attempt import Attempt
from .audit_entry import AuditEntry
from .audit_head import AuditHead
from .audit_report import AuditReport
from .bulk_replay import BulkReplay
from .delivery import Delivery
from .endpoint import Endpoint
from .event import Event
from .event_type_pattern import EventTypePattern
from .flow import Flow
from .health import Health
from .inbox_message import InboxMessage
from .network_list import NetworkList
from .overview import Overview
from .probe import Probe
from .pulse import Pulse
from .rejection import Rejection
from .signing_key import SigningKey
from .subscription import Subscription
from .switch import Switch
from .tally import Tally

__all__ = [
    "AcceptedFinding",
    "Attempt",
    "AuditEntry",
    "AuditHead",
    "AuditReport",
    "BulkReplay",
    "Delivery",
    "Endpoint",
    "Event",
    "EventTypePattern",
    "Flow",
    "Health",
    "InboxMessage",
    "NetworkList",
    "Overview",
    "Probe",
    "Pulse",
    "Rejection",
    "SigningKey",
    "Subscription",
    "Switch",
    "Tally",
]

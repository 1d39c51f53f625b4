"""The tables in Django's admin: subscriptions to edit, what became of events to look at."""

from __future__ import annotations

from .accepted_finding import AcceptedFindingAdmin
from .attempt import AttemptAdmin
from .audit_entry import AuditEntryAdmin
from .audit_report import AuditReportAdmin
from .bulk_replay import BulkReplayAdmin
from .delivery import DeliveryAdmin
from .endpoint import EndpointAdmin
from .event import EventAdmin
from .inbox_message import InboxMessageAdmin
from .network_list import NetworkListAdmin
from .overview import OverviewAdmin
from .rejection import RejectionAdmin
from .subscription import SubscriptionAdmin
from .switch import SwitchAdmin

__all__ = [
    "AcceptedFindingAdmin",
    "AttemptAdmin",
    "AuditEntryAdmin",
    "AuditReportAdmin",
    "BulkReplayAdmin",
    "DeliveryAdmin",
    "EndpointAdmin",
    "EventAdmin",
    "InboxMessageAdmin",
    "NetworkListAdmin",
    "OverviewAdmin",
    "RejectionAdmin",
    "SubscriptionAdmin",
    "SwitchAdmin",
]

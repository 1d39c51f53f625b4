"""The inbox, refused requests and lists of networks in Django's admin."""

from __future__ import annotations

from .inbox_message import InboxMessageAdmin
from .network_list import NetworkListAdmin
from .rejection import RejectionAdmin

__all__ = ["InboxMessageAdmin", "NetworkListAdmin", "RejectionAdmin"]

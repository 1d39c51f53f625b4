"""The tables of the inbox: messages received, requests refused, and networks of senders."""

from __future__ import annotations

from .inbox_message import InboxMessage
from .network_list import NetworkList
from .rejection import Rejection

__all__ = ["InboxMessage", "NetworkList", "Rejection"]

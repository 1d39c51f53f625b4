"""Claims on deliveries: leases, their order, and the way to an endpoint."""

from __future__ import annotations

from .leases import BATCH_SIZE, Lease, end, give_back, hold, load, set_aside, take
from .routing import Planner

__all__ = [
    "BATCH_SIZE",
    "Lease",
    "Planner",
    "end",
    "give_back",
    "hold",
    "load",
    "set_aside",
    "take",
]

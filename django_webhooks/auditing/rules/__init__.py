"""Rules: what audits look for, by what they look at. A new file is imported here."""

from __future__ import annotations

from . import deliveries, endpoints, keys, networks, processes, subscriptions, trail, users

__all__ = [
    "deliveries",
    "endpoints",
    "keys",
    "networks",
    "processes",
    "subscriptions",
    "trail",
    "users",
]

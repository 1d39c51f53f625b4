"""Rules: what audits look for, by what they look at. A new file is imported here.

``webhooks.A017`` is meant for rejected webhooks, by their source.
"""

from __future__ import annotations

from . import deliveries, endpoints, keys, networks, people, running, subscriptions, trail

__all__ = [
    "deliveries",
    "endpoints",
    "keys",
    "networks",
    "people",
    "running",
    "subscriptions",
    "trail",
]

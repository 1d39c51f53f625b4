"""System checks: settings that cannot work, or should not be what they are.

``manage.py check --tag webhooks`` runs these alone; ``--deploy`` adds those for production.
Ids are never used again.
"""

from __future__ import annotations

from .combinations import check_combinations, check_https, check_networks
from .names import check_names
from .people import check_acting
from .queues import check_horizon, check_routes, check_schedule
from .receiving import check_receiving, check_retention
from .secrets import (
    check_broker,
    check_key_of_its_own,
    check_keys_are_derived,
    check_keys_are_set,
    check_proxy,
)
from .values import check_values
from .watching import check_metrics, check_tracing

__all__ = [
    "check_acting",
    "check_broker",
    "check_combinations",
    "check_horizon",
    "check_https",
    "check_key_of_its_own",
    "check_keys_are_derived",
    "check_keys_are_set",
    "check_metrics",
    "check_names",
    "check_networks",
    "check_proxy",
    "check_receiving",
    "check_retention",
    "check_routes",
    "check_schedule",
    "check_tracing",
    "check_values",
]

"""One round of health checks: what is probed, switched and disabled, and who is told of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import disabling, notices, probes, pulses, upkeep


def run(*, hint: Callable[[], Any], tell: Callable[[], Any]) -> int:
    """Probe the endpoints that are due and act on it; return how many were probed.

    ``hint`` asks for a run of what is due, and ``tell`` for the mails and events of outages.
    """
    pulses.beat("check_health")
    probes.repair()
    probed = probes.check_all()
    disabling.disable_long_down()
    if upkeep.count_due(limit=1):
        hint()
    if notices.are_pending():
        tell()
    return probed

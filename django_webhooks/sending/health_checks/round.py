"""One round of health checks: what is probed, switched and disabled, and who is told of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...models.figures import heartbeat
from .. import maintenance, notifications
from . import auto_disable, probes


def run(*, hint: Callable[[], Any], tell: Callable[[], Any]) -> int:
    """Probe the endpoints that are due and act on it; return how many were probed.

    ``hint`` asks for a run of what is due, and ``tell`` for the mails and events of outages.
    """
    heartbeat.beat("check_health")
    probes.repair()
    probed = probes.check_all()
    auto_disable.disable_long_down()
    if maintenance.count_due(limit=1):
        hint()
    notifications.watch_if_due()
    if notifications.are_pending():
        tell()
    return probed

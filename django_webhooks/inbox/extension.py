"""The extension of the core by the inbox."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.dispatch import Signal

from ..extensions import Extension
from . import maintenance, tasks, worker


class InboxExtension(Extension):
    """Messages that wait, and what is old."""

    pruned = ("received message", "received messages")

    def lasting_tasks(self) -> Iterable[tuple[Any, float]]:
        """Return the task that handles messages."""
        return [(tasks.handle, worker.RUN_SECONDS)]

    def sweep(self, *, now: datetime) -> None:
        """Wake workers for messages that are due and were not told of."""
        tasks.wake_for_due(now=now)

    def prune(self, *, dry_run: bool = False, max_seconds: float = 60.0) -> int:
        """Remove messages that are over for longer than WEBHOOKS_RETENTION_DAYS."""
        return maintenance.prune(dry_run=dry_run, max_seconds=max_seconds)

    def metrics(self, *, now: datetime) -> Iterable[Any]:
        """Return what waits to be handled."""
        from . import metrics  # it needs prometheus_client

        return metrics.families(now=now)

    def counters(self) -> Iterable[tuple[Signal, Any]]:
        """Return the signal of messages that were given up."""
        from . import metrics  # it needs prometheus_client

        return metrics.RECEIVERS

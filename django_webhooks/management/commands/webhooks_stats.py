"""Print how webhooks fare: the figures of the admin's overview."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from ...sending import database
from ...sending.figures import statistics
from .. import arguments


class Command(BaseCommand):
    """Print figures as a table, or as JSON."""

    help = "Print deliveries by result, latencies, backlog, retries, and who is at work."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take the stretch of time, the subscriptions, and the form."""
        arguments.add_arguments(parser)
        parser.add_argument("--range", default="24h", choices=list(statistics.RANGES))
        parser.add_argument("--json", action="store_true", help="Print JSON.")

    def handle(self, **options: Any) -> None:
        """Print them."""
        using = database.alias()
        keys = None
        if options["subscriptions"]:
            found = arguments.subscriptions(options["subscriptions"], all=False, using=using)
            keys = [one.pk for one in found]
        told = _told(options["range"], keys, using=using)
        if options["json"]:
            self.stdout.write(json.dumps(told, default=str))
            return
        for name, value in told.items():
            shown = (
                ", ".join(f"{key} {_shown(one)}" for key, one in value.items()) or "-"
                if isinstance(value, dict)
                else _shown(value)
            )
            self.stdout.write(f"{name.replace('_', ' '):24}{shown}")


def _told(range_: str, keys: Any, *, using: str) -> dict[str, Any]:
    figures = statistics.figures(statistics.RANGES[range_], subscriptions=keys, using=using)
    waiting = statistics.backlog(subscriptions=keys, using=using)
    percentiles = ("p50", "p95", "p99")
    return {
        "range": range_,
        "counted_until": figures.counted_until,
        "succeeded": figures.succeeded,
        "given_up": figures.given_up,
        "cancelled": figures.cancelled,
        "success_rate": figures.success_rate,
        "latency_ms": dict(zip(percentiles, figures.latency, strict=True)),
        "duration_ms": dict(zip(percentiles, figures.duration, strict=True)),
        "retries_by_reason": dict(figures.retries_by_reason),
        "events_waiting": waiting.events,
        "due": waiting.due,
        "held": waiting.held,
        "oldest_due": waiting.oldest_due,
        "unhealthy_endpoints": len(statistics.unhealthy(subscriptions=keys, using=using)),
        "alive": {one.name: one.is_alive for one in statistics.lives(using=using)},
    }


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)

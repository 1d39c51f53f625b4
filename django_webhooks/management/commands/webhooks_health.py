"""Print the health of endpoints, and say by the exit status whether all are well.

What we disabled after an outage of days is not well; what somebody paused is left out.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand
from django.utils import timezone

from ...models import Health, Subscription
from ...sending import outbox, probes
from ..terminal import plain


class Command(BaseCommand):
    """Print a table of endpoints: health, since when, last evidence, and which are active."""

    help = "Print the health of all endpoints; exit with 1 unless all are well."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take --probe and --failing."""
        parser.add_argument("--probe", action="store_true", help="Probe each endpoint first.")
        parser.add_argument(
            "--failing", action="store_true", help="Print only the endpoints that are not well."
        )

    def handle(self, *, probe: bool, failing: bool, **options: Any) -> None:
        """Print them."""
        using = outbox.database()
        doors = (
            Health.objects.using(using)
            .filter(subscription__status=Subscription.Status.ACTIVE)
            .select_related("endpoint", "subscription")
            .order_by("subscription__name", "subscription_id", "endpoint__position")
        )
        if probe:
            usable = doors.filter(endpoint__disabled_at__isnull=True)
            probes.check_all(using=using, endpoints=list(usable.values_list("pk", flat=True)))
        found = list(doors)
        bad = [door for door in found if not _is_well(door)]
        rows = [_row(door) for door in (bad if failing else found)]
        self.stdout.write(_table([_HEADINGS, *rows]) if rows else "")
        self.stdout.write(f"{len(found)} endpoints, {len(bad)} not well.")
        disabled = list(
            Subscription.objects.using(using)
            .filter(status=Subscription.Status.DISABLED)
            .order_by("name", "pk")
        )
        for one in disabled:
            self.stdout.write(f"{plain(one.name)} is disabled. {plain(one.status_reason)}".rstrip())
        if bad or disabled:
            sys.exit(1)


_HEADINGS = ("subscription", "endpoint", "", "health", "since", "reason", "last evidence")


def _is_well(door: Health) -> bool:
    return door.state == Health.State.HEALTHY and door.endpoint.is_usable


def _row(door: Health) -> tuple[str, ...]:
    evidence = max(
        (one for one in (door.succeeded_at, door.failed_at, door.probed_at) if one), default=None
    )
    endpoint = door.endpoint
    marks = [*(["active"] if door.is_active else []), *(["pinned"] if endpoint.is_pinned else [])]
    return (
        plain(door.subscription.name),
        endpoint.label,
        ", ".join(marks),
        door.state if endpoint.is_usable else "disabled",
        _moment(door.failing_since or door.since),
        plain(door.reason or endpoint.disabled_reason),
        _moment(evidence),
    )


def _moment(moment: Any) -> str:
    return f"{timezone.localtime(moment):%Y-%m-%d %H:%M:%S}" if moment else "-"


def _table(rows: list[tuple[str, ...]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    return "\n".join(
        "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )

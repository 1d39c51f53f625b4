"""Print the health of endpoints, and all else that is not well; say it by the exit status.

A subscription that we disabled after an outage of days is not well; a paused one is left out.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from typing import Any

from django.core.management.base import BaseCommand

from ... import times
from ...models import EndpointHealth, Subscription
from ...policies.cleaning import written_out as plain
from ...sending import database, health_checks, notifications
from ...sending.figures import health_report
from ...sending.figures.health_report import Kind


class Command(BaseCommand):
    """Print a table of endpoints: health, since when, last evidence, and which are active."""

    help = "Print the health of all endpoints and what is not well; exit with 1 unless all is."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take what is done first, what is printed, and what is no failure."""
        parser.add_argument("--probe", action="store_true", help="Probe each endpoint first.")
        parser.add_argument(
            "--failing", action="store_true", help="Print only the endpoints that are not well."
        )
        parser.add_argument(
            "--notify",
            action="store_true",
            help="Mail those who are to be told, which workers do while they run.",
        )
        parser.add_argument(
            "--ignore",
            action="append",
            default=[],
            choices=[one.value for one in Kind],
            help="A kind of problem that is printed, but is no failure; may be repeated.",
        )

    def handle(
        self, *, probe: bool, failing: bool, notify: bool, ignore: Sequence[str], **options: Any
    ) -> None:
        """Print them."""
        using = database.alias()
        candidates = (
            EndpointHealth.objects.using(using)
            .filter(subscription__status=Subscription.Status.ACTIVE)
            .select_related("endpoint", "subscription")
            .order_by("subscription__name", "subscription_id", "endpoint__position")
        )
        if probe:
            usable = candidates.filter(endpoint__disabled_at__isnull=True)
            health_checks.check_all(
                using=using, endpoints=list(usable.values_list("pk", flat=True))
            )
        found = list(candidates)
        bad = [candidate for candidate in found if not _is_well(candidate)]
        rows = [_row(candidate) for candidate in (bad if failing else found)]
        self.stdout.write(_table([_HEADINGS, *rows]) if rows else "")
        self.stdout.write(f"{len(found)} endpoints, {len(bad)} not well.")
        if notify:
            notifications.watch(using=using)
            notifications.tell(using=using)
        report = health_report.report(using=using)
        for one in report.problems:
            self.stdout.write(plain(f"{one.kind}: {one}"))
        if any(one.kind.value not in ignore for one in report.problems):
            sys.exit(1)


_HEADINGS = ("subscription", "endpoint", "", "health", "since", "reason", "last evidence")


def _is_well(candidate: EndpointHealth) -> bool:
    return candidate.state == EndpointHealth.State.HEALTHY and candidate.endpoint.is_usable


def _row(candidate: EndpointHealth) -> tuple[str, ...]:
    evidence = max(
        (one for one in (candidate.succeeded_at, candidate.failed_at, candidate.probed_at) if one),
        default=None,
    )
    endpoint = candidate.endpoint
    marks = [
        *(["active"] if candidate.is_active else []),
        *(["pinned"] if endpoint.is_pinned else []),
    ]
    return (
        plain(candidate.subscription.name),
        endpoint.label,
        ", ".join(marks),
        candidate.state if endpoint.is_usable else "disabled",
        times.written(candidate.failing_since or candidate.since),
        plain(candidate.reason or endpoint.disabled_reason),
        times.written(evidence),
    )


def _table(rows: list[tuple[str, ...]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    return "\n".join(
        "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )

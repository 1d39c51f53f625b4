"""Remove deliveries that are over for longer than their retention, and rows of other apps."""

from __future__ import annotations

import math
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from ... import extensions
from ...sending import maintenance


class Command(BaseCommand):
    """Remove what is old now instead of waiting for beat."""

    help = (
        "Remove deliveries and, with the app inbox, received messages that are over for longer "
        "than WEBHOOKS_RETENTION_DAYS."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="Count them only.")
        parser.add_argument(
            "--max-seconds", type=float, default=math.inf, help="Stop after so many seconds."
        )

    def handle(self, *, dry_run: bool, max_seconds: float, **options: Any) -> None:
        """Remove them, in batches that are committed one by one."""
        count = maintenance.prune(dry_run=dry_run, max_seconds=max_seconds)
        found = [_counted(count, "delivery", "deliveries")]
        for one in extensions.installed():
            if one.pruned:
                count = one.prune(dry_run=dry_run, max_seconds=max_seconds)
                found.append(_counted(count, *one.pruned))
        self.stdout.write(f"{' and '.join(found)} {'would be removed' if dry_run else 'removed'}.")


def _counted(count: int, noun: str, nouns: str) -> str:
    return f"{count} {noun if count == 1 else nouns}"

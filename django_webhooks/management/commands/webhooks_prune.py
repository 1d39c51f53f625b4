"""Remove deliveries and received messages that are over for longer than their retention."""

from __future__ import annotations

import math
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from ...inbox import upkeep as inbox_upkeep
from ...sending import upkeep


class Command(BaseCommand):
    """Remove what is old now instead of waiting for beat."""

    help = (
        "Remove deliveries that are over for longer than WEBHOOKS_RETENTION_DAYS, and received "
        "messages for longer than WEBHOOKS_INBOX_RETENTION_DAYS."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="Count them only.")
        parser.add_argument(
            "--max-seconds", type=float, default=math.inf, help="Stop after so many seconds."
        )

    def handle(self, *, dry_run: bool, max_seconds: float, **options: Any) -> None:
        """Remove them, in batches that are committed one by one."""
        count = upkeep.prune(dry_run=dry_run, max_seconds=max_seconds)
        received = inbox_upkeep.prune(dry_run=dry_run, max_seconds=max_seconds)
        noun = "delivery" if count == 1 else "deliveries"
        other = "received message" if received == 1 else "received messages"
        verb = "would be removed" if dry_run else "removed"
        self.stdout.write(f"{count} {noun} and {received} {other} {verb}.")

"""Make a key for WEBHOOKS_ENCRYPTION_KEYS."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from ... import encryption


class Command(BaseCommand):
    """Print a new key."""

    help = "Print a new key for WEBHOOKS_ENCRYPTION_KEYS."
    requires_system_checks: list[str] = []

    def handle(self, **options: Any) -> None:
        """Print it, and nothing else, so that it can be piped."""
        self.stdout.write(encryption.generate_key())

"""Re-encrypt URLs, credentials and signing keys under the first of WEBHOOKS_ENCRYPTION_KEYS."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from ... import audit_log
from ...models.reencryption import Reencrypted, reencrypt
from ...sending import database
from ..base import HidingCommand


class Command(HidingCommand):
    """Re-encrypt what the database keeps, so that a former key can be removed."""

    help = "Re-encrypt what is kept encrypted under the first of WEBHOOKS_ENCRYPTION_KEYS."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--by", default="", help="Who asks, for the audit trail.")
        parser.add_argument("--dry-run", action="store_true", help="Count only.")

    def handle(self, *, by: str, dry_run: bool, **options: Any) -> None:
        """Re-encrypt value by value; a run that was stopped goes on where it was."""
        using = database.alias()
        found = reencrypt(using=using, dry_run=dry_run, tell=self._tell)
        if not dry_run:
            # With this entry the audit trail is sealed under the current key, too.
            audit_log.log(
                "encryption.keys_rotated",
                using=using,
                by=by,
                rewritten=found.rewritten,
                unreadable=found.unreadable,
            )
        verb = "to re-encrypt" if dry_run else "re-encrypted"
        line = f"{found.rewritten} {verb}, {found.current} under the current key already."
        if found.unreadable:
            keys = ", ".join(sorted(found.missing_keys))
            missing = (
                f" Missing keys: {keys}; add them to WEBHOOKS_ENCRYPTION_KEYS." if keys else ""
            )
            raise CommandError(f"{line} {found.unreadable} cannot be read and were left.{missing}")
        self.stdout.write(line)

    def _tell(self, place: str, found: Reencrypted) -> None:
        total = found.current + found.rewritten + found.unreadable
        self.stderr.write(f"{place}: {total} values looked at so far")

"""Give subscriptions new signing keys."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from ...models import SigningKey
from ...policies.cleaning import written_out as plain
from ...sending import database
from .. import arguments
from ..base import HidingCommand


class Command(HidingCommand):
    """Rotate the signing keys of some subscriptions, or of all."""

    help = "Give subscriptions new signing keys; the former ones go on signing for a while."

    def add_arguments(self, parser: ArgumentParser) -> None:
        arguments.add_arguments(parser)
        parser.add_argument(
            "--overlap",
            type=float,
            default=None,
            help="Seconds for which former keys go on signing; default a day.",
        )
        parser.add_argument(
            "--kind",
            choices=SigningKey.Kind.values,
            default="",
            help="Of the new keys; default that of the newest one.",
        )
        parser.add_argument("--by", default="", help="Who asks, for the audit trail.")
        parser.add_argument("--dry-run", action="store_true", help="Say which only.")

    def handle(
        self,
        *,
        subscriptions: list[str],
        all: bool,
        overlap: float | None,
        kind: str,
        by: str,
        dry_run: bool,
        **options: Any,
    ) -> None:
        """Rotate, and print what each receiver needs, which is shown this once."""
        if subscriptions and all:
            raise CommandError("Name subscriptions, or use --all; not both.")
        # One that is named twice is rotated once.
        found = dict.fromkeys(
            arguments.subscriptions(subscriptions, all=all, using=database.alias())
        )
        for subscription in found:
            if dry_run:
                self.stdout.write(f"{subscription.pk} {plain(subscription)}")
                continue
            try:
                key = subscription.rotate_key(
                    kind=kind, overlap=overlap, by=by or "webhooks_rotate_key"
                )
            except ValueError as error:
                raise CommandError(f"{subscription.pk} {plain(subscription)}: {error}") from error
            shown = key.public_key or key.secret
            self.stdout.write(f"{subscription.pk} {plain(subscription)}: {shown}")
        verb = "would be rotated" if dry_run else "rotated"
        noun = "key" if len(found) == 1 else "keys"
        self.stdout.write(f"{len(found)} signing {noun} {verb}.")

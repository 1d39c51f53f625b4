"""Give subscriptions new signing keys."""

from __future__ import annotations

import uuid
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from ...models import SigningKey, Subscription
from ...sending import outbox
from ..terminal import plain


class Command(BaseCommand):
    """Rotate the signing keys of some subscriptions, or of all."""

    help = "Give subscriptions new signing keys; the former ones go on signing for a while."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("subscriptions", nargs="*", help="Their ids.")
        parser.add_argument("--all", action="store_true", help="All subscriptions.")
        parser.add_argument(
            "--overlap",
            type=float,
            default=None,
            help="Seconds for which former keys go on signing; default WEBHOOKS_KEY_OVERLAP.",
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
        rows = Subscription.objects.using(outbox.database())
        if bool(subscriptions) == all:
            raise CommandError("Name subscriptions by their ids, or say --all.")
        found = list(rows.all() if all else rows.filter(pk__in=[_id(one) for one in subscriptions]))
        if missing := len(set(subscriptions)) - len(found) if subscriptions else 0:
            raise CommandError(f"{missing} of these subscriptions do not exist; nothing was done.")
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


def _id(text: str) -> uuid.UUID:
    try:
        return uuid.UUID(text)
    except ValueError:
        raise CommandError(f"{text!r} is no id of a subscription.") from None

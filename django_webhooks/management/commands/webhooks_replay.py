"""Replay deliveries that are over."""

from __future__ import annotations

from argparse import ArgumentParser
from datetime import datetime, timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from ... import workers
from ...models import Delivery
from ...sending import bulk_replays, outbox
from ...sending.bulk_replays import NothingToReplay
from ...sending.replay import Manner
from ...sending.selection import Selection, moment
from .. import choosing
from ..terminal import plain

_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


class Command(BaseCommand):
    """Begin a bulk replay, as the admin does."""

    help = "Replay the deliveries of subscriptions that were given up, in the background."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take what is replayed, where to, how fast and why."""
        choosing.add_arguments(parser)
        parser.add_argument("--ids", nargs="+", default=[], help="Keys of deliveries.")
        parser.add_argument("--since", help="A moment, or how long ago: 30m, 12h, 7d.")
        parser.add_argument("--until", help="A moment, or how long ago.")
        parser.add_argument(
            "--status",
            default=Delivery.Status.GIVEN_UP.value,
            choices=["given_up", "succeeded", "cancelled", "any"],
            help="What became of them; given_up unless said otherwise.",
        )
        parser.add_argument("--event-type", default="", help="Events of one type alone.")
        parser.add_argument("--reason-was", default="", help="Such as http_503 or timeout.")
        parser.add_argument("--endpoint", type=int, help="Position: 0 is the primary.")
        parser.add_argument("--new-ids", action="store_true", help="With new message ids.")
        parser.add_argument("--rate", type=int, help="Deliveries a second at the most.")
        parser.add_argument("--reason", default="webhooks_replay", help="For the audit trail.")
        parser.add_argument("--by", default="", help="Who asks, for the audit trail.")
        parser.add_argument("--dry-run", action="store_true", help="Count them only.")

    def handle(self, **options: Any) -> None:
        """Begin one bulk replay for each subscription, or one for the deliveries named."""
        using = outbox.database()
        status = "" if options["status"] == "any" else options["status"]
        if options["rate"] is not None and options["rate"] < 1:
            raise CommandError("--rate is a whole number of at least 1.")
        try:
            chosen = Selection.of(
                {
                    "ids": options["ids"],
                    "status": status,
                    "event_type": options["event_type"],
                    "reason": options["reason_was"],
                    "since": _moment(options["since"]),
                    "until": _moment(options["until"]),
                }
            )
        except ValueError as error:
            raise CommandError(str(error)) from None
        if chosen.ids and options["endpoint"] is not None:
            raise CommandError("--endpoint is of one subscription; name that in place of --ids.")
        if chosen.ids:
            self._begin(chosen, Manner(has_new_message_id=options["new_ids"]), options, using)
            return
        for subscription in choosing.subscriptions(
            options["subscriptions"], all=options["all"], using=using
        ):
            own = Selection.of({**chosen.stored, "subscription": str(subscription.pk)})
            endpoint = None
            if options["endpoint"] is not None:
                found = subscription.endpoints.filter(position=options["endpoint"]).first()
                if found is None:
                    name = plain(subscription.name)
                    raise CommandError(f"{name} has no endpoint at position {options['endpoint']}.")
                endpoint = found.pk
            manner = Manner(endpoint=endpoint, has_new_message_id=options["new_ids"])
            self._begin(own, manner, options, using, name=subscription.name)

    def _begin(
        self,
        chosen: Selection,
        manner: Manner,
        options: dict[str, Any],
        using: str,
        *,
        name: str = "",
    ) -> None:
        prefix = f"{plain(name)}: " if name else ""
        if options["dry_run"]:
            count = bulk_replays.candidates(chosen, using=using).count()
            self.stdout.write(f"{prefix}{_deliveries(count)} would be replayed.")
            return
        try:
            made = bulk_replays.start(
                chosen,
                reason=options["reason"],
                by=options["by"],
                manner=manner,
                rate=options["rate"],
                using=using,
            )
        except NothingToReplay:
            self.stdout.write(f"{prefix}nothing to replay.")
            return
        except ValueError as error:
            raise CommandError(str(error)) from None
        workers.begin_replay(str(made.pk))
        verb = "is" if made.total == 1 else "are"
        self.stdout.write(
            f"{prefix}{_deliveries(made.total)} {verb} replayed by bulk replay {made.pk}."
        )


def _deliveries(count: int) -> str:
    return f"{count} {'delivery' if count == 1 else 'deliveries'}"


def _moment(text: str | None) -> datetime | None:
    if not text:
        return None
    if text[-1] in _UNITS and text[:-1].isdecimal():
        return timezone.now() - timedelta(**{_UNITS[text[-1]]: int(text[:-1])})
    return moment(text)

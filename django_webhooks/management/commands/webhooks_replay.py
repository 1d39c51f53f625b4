"""Replay deliveries that are over."""

from __future__ import annotations

from argparse import ArgumentParser
from datetime import datetime, timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from ... import replays, times
from ...exceptions import NothingToReplay
from ...models import Delivery
from ...policies.cleaning import written_out as plain
from ...replays import ReplayOptions, Selection
from ...sending import database
from ...sending.replays import MOMENTS
from ...sending.replays.selection import moment
from .. import arguments

_UNITS = {"m": "minutes", "h": "hours", "d": "days"}
_WHEN = "a moment, or how long ago, such as 30m, 12h, 7d"


class Command(BaseCommand):
    """Begin a bulk replay, as the admin does."""

    help = "Replay the deliveries of subscriptions that were given up, in the background."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take what is replayed, where to, how fast and why."""
        arguments.add_arguments(parser)
        parser.add_argument("--ids", nargs="+", default=[], help="Keys of deliveries.")
        for name, what in (("finished-since", "over since"), ("finished-until", "over before")):
            parser.add_argument(f"--{name}", help=f"They were {what} then; {_WHEN}.")
        for name, what in (("since", "since"), ("until", "before")):
            parser.add_argument(f"--{name}", help=f"Their event was recorded {what} then; {_WHEN}.")
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
        using = database.alias()
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
                    **{name: _moment(options[name]) for name in MOMENTS},
                }
            )
        except ValueError as error:
            raise CommandError(str(error)) from None
        if chosen.ids and options["endpoint"] is not None:
            raise CommandError("--endpoint is of one subscription; name that in place of --ids.")
        if chosen.ids:
            self._begin(
                chosen, ReplayOptions(has_new_message_id=options["new_ids"]), options, using
            )
            return
        for subscription in arguments.subscriptions(
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
            replay_options = ReplayOptions(endpoint=endpoint, has_new_message_id=options["new_ids"])
            self._begin(own, replay_options, options, using, name=subscription.name)

    def _begin(
        self,
        chosen: Selection,
        replay_options: ReplayOptions,
        options: dict[str, Any],
        using: str,
        *,
        name: str = "",
    ) -> None:
        prefix = f"{plain(name)}: " if name else ""
        if options["dry_run"]:
            count = replays.candidates(chosen, using=using).count()
            self.stdout.write(f"{prefix}{_deliveries(count)} would be replayed.")
            return
        try:
            made = replays.start(
                chosen,
                reason=options["reason"],
                by=options["by"],
                replay_options=replay_options,
                rate=options["rate"],
                using=using,
            )
        except NothingToReplay:
            self.stdout.write(f"{prefix}nothing to replay.")
            return
        except ValueError as error:
            raise CommandError(str(error)) from None
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
        return times.now() - timedelta(**{_UNITS[text[-1]]: int(text[:-1])})
    return moment(text)

"""Send a test event to subscriptions."""

from __future__ import annotations

import json
import time
from argparse import ArgumentParser
from functools import partial
from typing import Any

from django.core.management.base import CommandError
from django.db import transaction

from ... import audit_log, catalog, wakeups
from ...commits import after_commit
from ...exceptions import WebhooksError
from ...models import Delivery
from ...policies.cleaning import written_out as plain
from ...sending import database, recording, worker
from ...sending.recording import Draft
from .. import arguments
from ..base import HidingCommand


class Command(HidingCommand):
    """Record a test event for each subscription, and say what became of it."""

    help = "Send a test event to subscriptions; exit with 1 unless all of them arrived."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take subscriptions, the event, and whether to wait."""
        arguments.add_arguments(parser)
        parser.add_argument("--event-type", help="A type of the catalog; the first unless named.")
        parser.add_argument("--data", help="JSON; the example of the type unless given.")
        parser.add_argument("--wait", type=float, default=15.0, help="Seconds for the result.")
        parser.add_argument(
            "--here", action="store_true", help="Send it in this process, without a worker."
        )
        parser.add_argument("--by", default="", help="Who asks, for the audit trail.")
        parser.add_argument("--dry-run", action="store_true", help="Say what would be sent.")

    def handle(self, **options: Any) -> None:
        """Send them, and print one line for each."""
        using = database.alias()
        draft = _draft(options["event_type"], options["data"])
        found = arguments.subscriptions(options["subscriptions"], all=options["all"], using=using)
        if options["dry_run"]:
            for one in found:
                self.stdout.write(f"{plain(one.name)}: {draft.event_type} would be sent.")
            return
        made = []
        for one in found:
            try:
                with transaction.atomic(using=using):
                    made.append(delivery := recording.record_for(one, draft, using=using))
                    audit_log.log(
                        "subscription.tested",
                        one,
                        using=using,
                        by=options["by"],
                        event_type=draft.event_type,
                    )
                    if not options["here"]:
                        after_commit(partial(wakeups.wake, [str(delivery.pk)]), using=using)
            except WebhooksError as error:
                raise CommandError(str(error)) from None
        if options["here"]:
            worker.drain([one.pk for one in made], using=using)
        ends = time.monotonic() + options["wait"]
        while not all(_is_told(one, using=using) for one in made) and time.monotonic() < ends:
            time.sleep(0.1)
        for delivery in made:
            name = delivery.subscription.name if delivery.subscription else "-"
            self.stdout.write(f"{plain(name)}: {plain(delivery.explain())}")
        if any(one.status != Delivery.Status.SUCCEEDED for one in made):
            raise SystemExit(1)


def _is_told(delivery: Delivery, *, using: str) -> bool:
    """Say whether there is something to tell: it is over, or its first attempt failed."""
    delivery.refresh_from_db(using=using)
    return delivery.is_over or (delivery.attempts_made > 0 and delivery.lease_token is None)


def _draft(event_type: str | None, data: str | None) -> Draft:
    types = catalog.all()
    if event_type is None and not types:
        raise CommandError("No event types are declared; name one with --event-type.")
    name = event_type or types[0].name
    try:
        catalog.check(name)
        example = next((one.example for one in types if one.name == name), None)
        return Draft(event_type=name, data=json.loads(data) if data else (example or {}))
    except WebhooksError as error:
        raise CommandError(str(error)) from None
    except ValueError as error:
        raise CommandError(f"--data is not JSON: {error}.") from None

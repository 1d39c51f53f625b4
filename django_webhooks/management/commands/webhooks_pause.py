"""Pause subscriptions, or resume them."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from ... import wakeups
from ...audit_log import set_actor
from ...policies.cleaning import written_out as plain
from ...sending import database
from .. import arguments


class Command(BaseCommand):
    """Stop the traffic to subscriptions; what happens meanwhile is recorded and waits."""

    help = "Pause subscriptions; with --resume, send again, what waited first."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take subscriptions, and which of both."""
        arguments.add_arguments(parser)
        parser.add_argument("--resume", action="store_true", help="Resume them.")
        parser.add_argument("--reason", default="", help="For those who come after you.")
        parser.add_argument("--by", default="", help="Who asks, for the audit trail.")
        parser.add_argument("--dry-run", action="store_true", help="Say which these would be.")

    def handle(self, **options: Any) -> None:
        """Do it to those that are not so already."""
        using = database.alias()
        wanted, done = options["resume"], 0
        verb = "resumed" if wanted else "paused"
        for one in arguments.subscriptions(
            options["subscriptions"], all=options["all"], using=using
        ):
            if one.is_active == wanted:
                self.stdout.write(
                    f"{plain(one.name)}: is {one.get_status_display().lower()} already."
                )
                continue
            done += 1
            if options["dry_run"]:
                self.stdout.write(f"{plain(one.name)}: would be {verb}.")
                continue
            with set_actor(options["by"]):
                if wanted:
                    one.resume()
                else:
                    one.pause(options["reason"] or "webhooks_pause", by=options["by"])
            self.stdout.write(f"{plain(one.name)}: {verb}.")
        if wanted and done and not options["dry_run"]:
            wakeups.wake([])
        noun = "subscription" if done == 1 else "subscriptions"
        would = "would be " if options["dry_run"] else ""
        self.stdout.write(f"{done} {noun} {would}{verb}.")

"""Audit settings, rows and the audit trail; accept findings."""

from __future__ import annotations

import re
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from ....sending import database, notifications
from ... import audit, chain, mailing, rendering
from ...finding import RULES, Severity
from ...models import AcceptedFinding

_ANCHOR = re.compile(r"([1-9]\d{0,17}):([0-9a-f]{64})")


class Command(BaseCommand):
    """Print a report, and say by the exit status whether it is well."""

    help = "Audit webhooks: exit with 1 for findings, or an audit trail that does not hold."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take the form, where it goes, what fails, and what is accepted."""
        parser.add_argument("--format", choices=list(rendering.FORMATS), default="text")
        parser.add_argument("--output", type=Path, help="A file instead of the terminal.")
        parser.add_argument("--keep", action="store_true", help="Keep it among the reports.")
        parser.add_argument("--mail", action="store_true", help="Mail it, whatever it says.")
        parser.add_argument(
            "--fail-on",
            choices=[*Severity, "never"],
            default="warning",
            help="Exit with 1 for findings of this severity or a worse one.",
        )
        parser.add_argument("--verify", action="store_true", help="Look at the trail alone.")
        parser.add_argument(
            "--anchor",
            action="append",
            default=[],
            metavar="SEQUENCE:DIGEST",
            help="Of a log: the audit trail must have it.",
        )
        parser.add_argument("--accept", metavar="ID[:SUBJECT]", help="Let it not count.")
        parser.add_argument("--withdraw", metavar="ID[:SUBJECT]", help="Let it count again.")
        parser.add_argument("--reason", default="", help="Why it is accepted.")
        parser.add_argument("--days", type=float, default=90.0, help="For how long.")
        parser.add_argument("--by", default="", help="Who asks, for the audit trail.")

    def handle(self, **options: Any) -> None:
        """Do one of these, and exit with 1 where something is not well."""
        using = database.alias()
        anchors = _anchors(options["anchor"])
        if options["accept"] or options["withdraw"]:
            self._accept(options, using=using)
            return
        if options["verify"]:
            self._verify(anchors, using=using)
            return
        self._report(options, anchors, using=using)

    def _report(self, options: dict[str, Any], anchors: dict[int, str], *, using: str) -> None:
        to = notifications.operators() if options["mail"] else []
        if options["mail"] and not to:
            raise _usage("WEBHOOKS_NOTIFY_OPERATORS names nobody to mail the report to.")
        found = audit.run(using=using, anchors=anchors)
        keep = audit.keep if options["keep"] or to else audit.report_of
        report = keep(found, by=options["by"], using=using)
        shown = rendering.FORMATS[options["format"]](report)
        if options["output"]:
            try:
                options["output"].write_text(shown, encoding="utf-8")
            except OSError as error:
                raise _usage(f"{options['output']} cannot be written: {error.strerror}.") from error
        else:
            self.stdout.write(shown, ending="")
        if to:
            mailing.send(report, to)
        limit = options["fail_on"]
        if limit != "never" and found.at_least(Severity(limit)):
            raise SystemExit(1)

    def _verify(self, anchors: dict[int, str], *, using: str) -> None:
        found = chain.verify(using=using, anchors=anchors)
        for key, count in found.unchecked.items():
            self.stdout.write(f"{count} entries rest on the chain alone: their key {key} is gone.")
        if found.broken is not None:
            raise CommandError(f"The audit trail is broken. {found.broken.sentence}")
        if found.forged:
            raise CommandError(f"{found.forged} entries were not written by the app.")
        if found.is_sealed is None:
            raise CommandError(
                f"The audit trail cannot be checked: the key of its seal is gone. Its "
                f"{found.entries} entries follow each other."
            )
        self.stdout.write(f"The audit trail holds: {found.entries} entries, {found.head}.")

    def _accept(self, options: dict[str, Any], *, using: str) -> None:
        if options["accept"] and options["withdraw"]:
            raise _usage("Say either --accept or --withdraw.")
        id, _, subject = (options["accept"] or options["withdraw"]).partition(":")
        if id not in {*RULES, audit.FAILED}:
            raise _usage(f"{id!r} is the id of no finding; see docs/reference/audit.md.")
        rows = AcceptedFinding.objects.using(using)
        if options["withdraw"]:
            if not rows.withdraw(id, subject, by=options["by"]):
                raise CommandError(f"{options['withdraw']} was not accepted.")
            self.stdout.write(f"{options['withdraw']} counts again.")
            return
        try:
            made = rows.accept(
                id,
                subject,
                reason=options["reason"],
                days=options["days"],
                by=options["by"],
            )
        except (ValueError, OverflowError) as error:
            raise _usage(str(error)) from error
        self.stdout.write(f"{made} is accepted until {made.until:%Y-%m-%d %H:%M}.")


def _usage(message: str) -> CommandError:
    return CommandError(message, returncode=2)


def _anchors(texts: list[str]) -> dict[int, str]:
    found = {}
    for text in texts:
        match = _ANCHOR.fullmatch(text.strip())
        if match is None:
            raise _usage(f"{text!r} is no anchor; one is SEQUENCE:DIGEST, as it was logged.")
        found[int(match[1])] = match[2]
    return found

"""Load the networks that a sender publishes."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from requests.exceptions import RequestException

from .... import guarded
from ....exceptions import UnusableList
from ....policies.cleaning import written_out
from ... import network_lists

#: Where senders publish their networks, and where in that document they stand.
KNOWN = {
    # https://docs.github.com/en/rest/meta/meta
    "github": ("https://api.github.com/meta", "hooks"),
    # https://docs.stripe.com/ips
    "stripe": ("https://stripe.com/files/ips/ips_webhooks.json", "WEBHOOKS"),
    # https://support.atlassian.com/organization-administration/docs/ip-addresses-and-domains-for-atlassian-cloud-products/
    "atlassian": ("https://ip-ranges.atlassian.com/", "items.cidr"),
}
#: Seconds and bytes that a document may take.
TIMEOUT, MAX_BYTES = 30.0, 8_388_608


class Command(BaseCommand):
    """Load a list, for the ``allowed_networks`` of views that take ``published(name)``."""

    help = (
        "Load the networks that a sender publishes as JSON, for allowed_networks=published(NAME). "
        f"Known by name: {', '.join(KNOWN)}."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", help="Name of the list.")
        parser.add_argument("--url", default="", help="Where the document is.")
        parser.add_argument("--file", default="", help="A file that holds it, in place of a URL.")
        parser.add_argument("--path", default="", help="Where the networks are: items.cidr.")
        parser.add_argument("--by", default="", help="Who asks, for the audit trail.")
        parser.add_argument(
            "--force", action="store_true", help="Even where most of the known ones would go."
        )
        parser.add_argument("--dry-run", action="store_true", help="Print the networks only.")

    def handle(
        self,
        *,
        name: str,
        url: str,
        file: str,
        path: str,
        by: str,
        force: bool,
        dry_run: bool,
        **options: Any,
    ) -> None:
        """Load, look, and store."""
        known_url, known_path = KNOWN.get(name, ("", ""))
        origin = file or url or known_url
        if not origin:
            raise CommandError(f"Where {name!r} is published is not known: use --url or --file.")
        text = self._read(file) if file else self._load(origin)
        try:
            document = json.loads(text)
        except (ValueError, RecursionError):
            raise CommandError(f"What {origin} holds is not JSON, or is too long.") from None
        try:
            found = network_lists.check(network_lists.pick(document, path or known_path))
            if dry_run:
                self.stdout.write("\n".join(found))
                self.stdout.write(f"{len(found)} networks would be stored.")
                return
            count = network_lists.store(name, found, origin=origin, by=by, force=force)
        except UnusableList as error:
            raise CommandError(str(error)) from None
        self.stdout.write(f"{name}: {count} networks are stored.")

    def _read(self, file: str) -> bytes:
        try:
            return Path(file).read_bytes()
        except OSError as error:
            raise CommandError(f"{file} cannot be read: {error.strerror}.") from None

    def _load(self, url: str) -> bytes:
        try:
            with guarded.session(max_bytes=MAX_BYTES) as http:
                answer = http.get(url, headers={"accept": "application/json"}, timeout=TIMEOUT)
        except RequestException as error:
            detail = written_out(str(error))[:500]
            raise CommandError(f"{url} could not be loaded: {detail}") from None
        if answer.status_code != 200:
            raise CommandError(f"{url} answered {answer.status_code}.")
        return answer.content

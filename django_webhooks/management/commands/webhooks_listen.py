"""Listen on loopback for webhooks: verify, print, and fail on purpose."""

from __future__ import annotations

import os
import queue
import signal
import ssl
import sys
import threading
import time
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.management.base import CommandError

from ... import signing, times
from ...exceptions import InvalidSecret
from ...models import SigningKey
from ...receiving import GitHub, Scheme, Shopify, Slack, StandardWebhooks, Stripe, Token
from ...receiving.failures import Plan, parse
from ...receiving.listener import Listener
from ...receiving.observed_request import Arrival
from ...sending import database
from .. import arguments, listen_output
from ..base import HidingCommand

SCHEMES: dict[str, Scheme] = {
    "standard": StandardWebhooks(),
    "github": GitHub(),
    "stripe": Stripe(),
    "slack": Slack(),
    "shopify": Shopify(),
    "token": Token(),
}
#: Holds a secret, or several in lines, so that none is in the list of processes.
ENVIRONMENT = "DJANGO_WEBHOOKS_SECRET"


class Command(HidingCommand):
    """Run a receiver for trying out, and print what arrives."""

    help = "Receive webhooks on loopback: verify them, print them, and fail on purpose."
    requires_system_checks: list[str] = []  # as Django declares it

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take where to listen, what proves a request, what fails, and when to end."""
        parser.add_argument("--port", type=int, default=8100, help="0 for any that is free.")
        parser.add_argument("--scheme", choices=SCHEMES, default="standard", help="Who sends.")
        parser.add_argument(
            "--secret", action="append", default=[], help=f"Again for more; or in {ENVIRONMENT}."
        )
        parser.add_argument("--subscription", help="Take the secrets of this one, by key or name.")
        parser.add_argument(
            "--tolerance", type=int, default=signing.TOLERANCE, help="Seconds, either way."
        )
        parser.add_argument(
            "--fail",
            action="append",
            default=[],
            help="503, 429:30 (with Retry-After), timeout, reset, redirect or refuse (for good); "
            "several take turns.",
        )
        parser.add_argument("--fail-first", type=int, help="Only the first ones fail.")
        parser.add_argument("--fail-rate", type=float, help="Only this share fails, 0 to 1.")
        parser.add_argument("--seed", type=int, help="The same seed fails the same ones.")
        parser.add_argument("--requests", type=int, help="End after so many.")
        parser.add_argument("--seconds", type=float, help="End after so long.")
        parser.add_argument("--json", action="store_true", help="One JSON object a line.")
        parser.add_argument("--tls", nargs=2, metavar=("CERT", "KEY"), help="Listen with TLS.")

    def handle(self, **options: Any) -> None:
        """Listen until told to end; exit with 1 where one was refused, or too few came."""
        came: queue.SimpleQueue[Arrival | None] = queue.SimpleQueue()
        listener = Listener(
            scheme=SCHEMES[options["scheme"]],
            secrets=_secrets(options),
            told=came.put,
            plan=_plan(options),
            port=options["port"],
            tolerance=options["tolerance"],
            tls=_tls(options["tls"]),
        )
        aside = self.stderr if options["json"] else self.stdout
        counts: Counter[str] = Counter()
        _start(listener)
        try:
            with _ending_by_signal(came):
                aside.write(f"Listening on {listener.url} ({options['scheme']}). Ctrl-C ends it.")
                aside.flush()
                for arrival in _arriving(came, listener, options["requests"], options["seconds"]):
                    _count(counts, arrival)
                    self._show(arrival, as_json=options["json"])
        except BrokenPipeError:
            # Nobody reads any longer; nor may the interpreter complain of it at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        finally:
            listener.stop()
        aside.write(
            f"{counts['arrived']} arrived: {counts['verified']} verified, "
            f"{counts['repeated']} repeated, {counts['failed']} failed on purpose, "
            f"{counts['refused']} refused."
        )
        if counts["refused"] or counts["arrived"] < (options["requests"] or 0):
            sys.exit(1)

    def _show(self, arrival: Arrival, *, as_json: bool) -> None:
        text = listen_output.as_json(arrival) if as_json else listen_output.for_people(arrival)
        encoding = getattr(self.stdout, "encoding", None) or "utf-8"
        self.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
        self.stdout.flush()


def _start(listener: Listener) -> None:
    try:
        listener.start()
    except (OSError, OverflowError) as error:
        raise CommandError(f"Port {listener.port} cannot be listened on: {error}") from None


def _arriving(
    came: queue.SimpleQueue[Arrival | None],
    listener: Listener,
    requests: int | None,
    seconds: float | None,
) -> Iterator[Arrival]:
    """Yield what arrives until None does, or it is enough; then stop, and yield what is left."""
    ends = None if seconds is None else time.monotonic() + seconds
    count, is_ending = 0, False
    while requests is None or count < requests:
        left = None if ends is None else max(0.0, ends - time.monotonic())
        try:
            arrival = came.get(block=not is_ending, timeout=None if is_ending else left)
        except queue.Empty:
            if is_ending:
                return
            arrival = None
        if arrival is None:
            is_ending = True
            listener.stop()
        else:
            count += 1
            yield arrival


def _count(counts: Counter[str], arrival: Arrival) -> None:
    counts["arrived"] += 1
    counts["verified" if arrival.is_verified else "refused"] += 1
    counts["repeated"] += arrival.is_repeat
    counts["failed"] += arrival.is_verified and arrival.answer != "204"


@contextmanager
def _ending_by_signal(came: queue.SimpleQueue[Arrival | None]) -> Iterator[None]:
    """Let the first Ctrl-C or SIGTERM end it in order, and the second as usual."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = {
        one: signal.getsignal(one) or signal.SIG_DFL for one in (signal.SIGINT, signal.SIGTERM)
    }

    def restore(*args: Any) -> None:
        for one, handler in former.items():
            signal.signal(one, handler)

    def end(*args: Any) -> None:
        restore()
        came.put(None)

    for one in former:
        signal.signal(one, end)
    try:
        yield
    finally:
        restore()


def _secrets(options: dict[str, Any]) -> list[str]:
    found = [*options["secret"], *os.environ.get(ENVIRONMENT, "").splitlines()]
    if options["subscription"] is not None:
        found += _secrets_of(options["subscription"])
    found = [one for one in found if one]
    if not found:
        raise CommandError(
            f"Name what to verify with: --subscription, --secret, or {ENVIRONMENT} in the "
            "environment."
        )
    scheme = SCHEMES[options["scheme"]]
    if isinstance(scheme, StandardWebhooks):
        for secret in found:
            try:
                scheme.check_secret(secret)
            except InvalidSecret as error:
                raise CommandError(str(error)) from None
    return found


def _secrets_of(name: str) -> list[str]:
    using = database.alias()
    [subscription] = arguments.subscriptions([name], all=False, using=using)
    rows = SigningKey.objects.using(using).filter(subscription=subscription)
    keys = rows.active(times.now())
    found = [one.public_key or one.secret for one in keys if one.is_readable]
    if not found:
        raise CommandError(f"{subscription.name} has no signing key that can be read.")
    return found


def _plan(options: dict[str, Any]) -> Plan:
    try:
        return Plan(
            [parse(one) for one in options["fail"]],
            first=options["fail_first"],
            rate=options["fail_rate"],
            seed=options["seed"],
        )
    except ValueError as error:
        raise CommandError(str(error)) from None


def _tls(files: list[str] | None) -> ssl.SSLContext | None:
    if files is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(*files)
    except (OSError, ValueError) as error:
        raise CommandError(f"The certificate and its key cannot be used: {error}") from None
    return context

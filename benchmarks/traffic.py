"""Steady traffic to several subscriptions, and how long it takes to arrive."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

from benchmarks import testbed


class Sent(NamedTuple):
    """A committed event: which subscription hears it, and the moment of its commit."""

    who: int
    at: float


def subscribe(urls: Sequence[str]) -> list[object]:
    """Subscribe each URL to an event type of its own."""
    return [
        testbed.subscribe(url, name=f"receiver {who}", event_types=[event_type(who)]).pk
        for who, url in enumerate(urls)
    ]


def event_type(who: int) -> str:
    """Return the event type that a subscription hears."""
    return f"shop{who}.paid"


@dataclass
class Traffic:
    """Events that are committed at a steady rate, each receiver in turn."""

    rate: int
    receivers: int
    sent: dict[str, Sent] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)

    def run(self, seconds: float) -> None:
        """Commit events for so long, or until it is stopped.

        What is late is made up for; a machine that cannot keep up commits fewer.
        """
        began = time.monotonic()
        number = 0
        while max(time.monotonic(), due := began + number / self.rate) < began + seconds:
            if self._stop.wait(max(0.0, due - time.monotonic())):
                return
            self._commit(number % self.receivers)
            number += 1

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """Run beside this block, in a thread of its own."""
        thread = threading.Thread(target=self._run_alone, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join(10)

    def _run_alone(self) -> None:
        from django.db import connection

        try:
            self.run(float("inf"))
        finally:
            connection.close()

    def _commit(self, who: int) -> None:
        from django.db import transaction

        from django_webhooks import events

        moments: list[float] = []
        with transaction.atomic():
            # The first of the hooks, so that it runs directly after the commit.
            transaction.on_commit(lambda: moments.append(time.monotonic()))
            event = events.emit(event_type(who), testbed.PAYLOAD)
        if event is None:
            raise SystemExit(f"Nobody listens to {event_type(who)}.")
        self.sent[event.message_id] = Sent(who, moments[0])


def wait_for(keys: Callable[[], Collection[str]], limit: float) -> int:
    """Wait until none of the keys is left, at most so many seconds; return how many are."""
    ends = time.monotonic() + limit
    while left := len(keys()):
        if time.monotonic() > ends:
            break
        time.sleep(0.25)
    return left


def delays(sent: dict[str, Sent], arrived: dict[str, float]) -> list[float]:
    """Return the milliseconds from commit to arrival of what has arrived."""
    return [(arrived[key] - one.at) * 1000 for key, one in sent.items() if key in arrived]

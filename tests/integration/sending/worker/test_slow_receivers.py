"""Receivers that hang, with real sockets: they hold back nobody but themselves."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from contextlib import ExitStack

import pytest
from django.db import connection

from django_webhooks.models import Attempt, Delivery
from django_webhooks.sending import worker
from django_webhooks.sending.worker import dispatch
from tests import factories
from tests.receivers import receiving, speaking
from tests.timing import until

HOLES, BACKLOG, EVENTS = 10, 60, 60
#: Options of a subscription whose endpoint stays as it is, whatever fails.
NEVER_FALLS = {"health_fall": 1000, "health_window_attempts": 1000}


def hang(peer: socket.socket) -> None:
    """Take what is sent, and never answer."""
    with contextlib.suppress(OSError):
        while peer.recv(65_536):
            pass


@pytest.mark.django_db(transaction=True)
def test_ten_that_hang_with_much_to_do_do_not_delay_one_that_answers(settings, monkeypatch):
    settings.WEBHOOKS_TIMEOUT_SECONDS, settings.WEBHOOKS_LEASE_SECONDS = 60.0, 120.0
    monkeypatch.setattr(dispatch, "DRAIN_SECONDS", 3.0)
    recorded: dict[str, float] = {}
    is_over = threading.Event()

    def hang_to_the_end(peer: socket.socket) -> None:
        peer.recv(65_536)
        is_over.wait(100)

    def emit_steadily() -> None:
        """Record events for the healthy receiver, until after the end of a run, and wait."""
        try:
            for _ in range(EVENTS):
                before = time.monotonic()
                for delivery in factories.record("user.joined"):
                    recorded[delivery.message_id] = before
                time.sleep(0.05)
            until(lambda: len(healthy.requests) == EVENTS, seconds=50)
        finally:
            is_over.set()
            connection.close()

    with ExitStack() as servers:
        for _ in range(HOLES):
            host = servers.enter_context(speaking(hang_to_the_end))
            factories.subscription(url=f"http://{host}/hook", **NEVER_FALLS)
        healthy = servers.enter_context(receiving(204))
        factories.subscription(url=healthy.url, event_types=["user.joined"])
        for number in range(BACKLOG):
            factories.record(data={"id": number})
        emitter = threading.Thread(target=emit_steadily)
        emitter.start()
        while not is_over.is_set():
            worker.drain()
        emitter.join()
        arrived = {one.headers["webhook-id"]: one.at for one in healthy.requests}

    assert set(arrived) == set(recorded)
    latencies = sorted(arrived[key] - at for key, at in recorded.items())
    p50, p99 = (latencies[int(len(latencies) * share)] for share in (0.5, 0.99))
    print(f"\n{len(latencies)} arrived, p50 {p50:.3f} s, p99 {p99:.3f} s")
    assert len(latencies) == EVENTS
    # A request to one that hangs takes a minute.
    assert p99 < 20


@pytest.mark.django_db(transaction=True)
def test_who_turns_out_to_be_slow_at_the_end_does_not_make_it_later(settings, monkeypatch):
    """The run waits for one that hangs, takes much of another meanwhile, and gives it back."""
    settings.WEBHOOKS_TIMEOUT_SECONDS = 2.0
    monkeypatch.setattr(dispatch, "DRAIN_SECONDS", 0.5)
    with speaking(hang) as first, speaking(hang) as second:
        factories.subscription(url=f"http://{first}/hook", event_types=["order.*"], **NEVER_FALLS)
        factories.subscription(
            url=f"http://{second}/hook", event_types=["user.joined"], **NEVER_FALLS
        )
        factories.record()

        def record_later() -> None:
            time.sleep(1.0)
            try:
                for _ in range(50):
                    factories.record("user.joined")
            finally:
                connection.close()

        later = threading.Thread(target=record_later)
        later.start()
        began = time.monotonic()
        worker.drain()
        took = time.monotonic() - began
        later.join()

    # All that is for the second takes a hundred seconds.
    assert took < 30
    assert Attempt.objects.count() <= 4
    assert Delivery.objects.waiting().count() == 51

"""Steady traffic: things created on the site, and when their webhooks arrived."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from tests.receivers import Receiver

from .harness import PATIENCE, Harness


class Traffic:
    """Events at a steady rate, each with the moment at which its commit was known."""

    def __init__(self, harness: Harness, *, rate: float) -> None:
        self.harness, self.rate = harness, rate
        #: Moments by key of the thing; seconds of the monotonic clock.
        self.committed: dict[int, float] = {}
        #: Saves that failed.
        self.refused = 0
        self._ending = threading.Event()

    def run(self) -> None:
        """Create things until told to end."""
        with ThreadPoolExecutor(8) as pool:
            due = time.monotonic()
            while not self._ending.is_set():
                pool.submit(self._create)
                due += 1 / self.rate
                time.sleep(max(0.0, due - time.monotonic()))
            # A site that is slower than the rate does not go on when it is over.
            pool.shutdown(cancel_futures=True)

    def end(self) -> None:
        """Create no more."""
        self._ending.set()

    def _create(self) -> None:
        made = self.harness.ask("thing")
        if made is None:
            self.refused += 1
        else:
            self.committed[made["id"]] = time.monotonic()

    def latencies(self, *receivers: Receiver) -> list[float]:
        """Return the seconds from commit to the first accepted arrival, of those that arrived."""
        arrived = first_arrivals(*receivers)
        return sorted(
            max(0.0, arrived[key] - at) for key, at in self.committed.items() if key in arrived
        )


def first_arrivals(*receivers: Receiver) -> dict[int, float]:
    """Return when each thing was first accepted by one of the receivers."""
    found: dict[int, float] = {}
    for receiver in receivers:
        for request in receiver.requests:
            if request.status is not None and 200 <= request.status < 300:
                key = json.loads(request.body)["data"]["id"]
                found[key] = min(found.get(key, request.at), request.at)
    return found


@contextmanager
def traffic(harness: Harness, *, rate: float = 20.0) -> Iterator[Traffic]:
    """Run traffic in the background."""
    made = Traffic(harness, rate=rate)
    thread = threading.Thread(target=made.run, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made.end()
        thread.join(PATIENCE)
        assert not thread.is_alive(), "a thing is still being created"


def percentile(values: list[float], share: float) -> float:
    """Return the value that this share of the sorted values does not exceed."""
    return values[min(len(values) - 1, int(share * len(values)))]

"""Traffic: things created on the site, those of one key one after the other."""

from __future__ import annotations

import threading
import time

from tests.acceptance.harness import Harness

KEYS = 6


class Traffic:
    """Events at a steady rate until it is ended."""

    def __init__(self, harness: Harness, *, rate: float) -> None:
        self.harness, self.pause = harness, KEYS / rate
        #: Requests to the site that it did not answer: it was dead, or the database was.
        self.unanswered = 0
        self._ending = threading.Event()
        self._threads = [
            threading.Thread(target=self._create, args=(f"key-{number}",), daemon=True)
            for number in range(KEYS)
        ]

    def __enter__(self) -> Traffic:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *args: object) -> None:
        self.end()

    def end(self) -> None:
        """Create no more."""
        self._ending.set()
        for thread in self._threads:
            thread.join(60)

    def _create(self, key: str) -> None:
        due = time.monotonic()
        while not self._ending.is_set():
            if self.harness.ask(key) is None:
                self.unanswered += 1
            due = max(due + self.pause, time.monotonic() - 1)
            self._ending.wait(max(0.0, due - time.monotonic()))

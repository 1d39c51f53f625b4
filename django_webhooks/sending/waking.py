"""Wake-ups: tell a worker to look now, without ever making the caller wait for a broker.

A daemon thread of the process publishes what its threads ask for, several requests as one message
where they come close together. A broker that cannot be reached costs the thread's time, not the
caller's; what could not be told is found by the sweep.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence

logger = logging.getLogger(__name__)

#: Ids that one message carries at the most; the worker finds the others by itself.
MAX_IDS = 100
#: Ids that wait for the broker at the most.
MAX_WAITING = 10_000
#: Seconds that the end of the process waits for the last message.
PATIENCE_AT_EXIT = 2.0


class Waker:
    """Publish wake-ups from a thread of its own, started when it is first needed."""

    def __init__(self, publish: Callable[[list[str]], None], *, pause_after_failure: float = 1.0):
        self._publish = publish
        self._pause_after_failure = pause_after_failure
        self._changed: threading.Condition
        self._waiting: list[str]
        self._thread: threading.Thread | None
        self._is_publishing: bool
        self._start_afresh()
        os.register_at_fork(after_in_child=self._start_afresh)
        atexit.register(self.flush)

    def wake(self, ids: Sequence[str]) -> None:
        """Ask for the deliveries to be looked at; returns at once and never raises."""
        with self._changed:
            self._waiting += ids[: MAX_WAITING - len(self._waiting)]
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="webhooks-waker", daemon=True
                )
                self._thread.start()
            self._changed.notify_all()

    def flush(self, *, timeout: float = PATIENCE_AT_EXIT) -> bool:
        """Wait until all was published, at most ``timeout`` seconds; say whether it was."""
        ends = time.monotonic() + timeout
        with self._changed:
            while self._waiting or self._is_publishing:
                left = ends - time.monotonic()
                if left <= 0:
                    return False
                self._changed.wait(left)
        return True

    def _start_afresh(self) -> None:
        # A forked child inherits the ids, which its parent publishes, and not the thread.
        self._changed = threading.Condition()
        self._waiting = []
        self._thread = None
        self._is_publishing = False

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting:
                    self._changed.wait()
                ids, self._waiting = self._waiting[:MAX_IDS], self._waiting[MAX_IDS:]
                self._is_publishing = True
            failed = False
            try:
                self._publish(ids)
            except Exception as error:
                failed = True
                logger.warning(
                    "The broker could not be told of %d deliveries, the sweep will find them: %s",
                    len(ids),
                    error,
                )
            with self._changed:
                self._is_publishing = False
                if failed:
                    self._waiting.clear()
                self._changed.notify_all()
            if failed:
                time.sleep(self._pause_after_failure)

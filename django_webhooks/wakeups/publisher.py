"""Wake-ups: tell a worker to look now, without ever making the caller wait for a broker.

A daemon thread of the process publishes what its threads ask for: the first request at once, and
then at most one message in 50 ms, because a message costs the process nearly as much as recording
an event does, whichever thread pays. No request waits longer than that. A broker that cannot be
reached costs the thread's time, not the caller's; what could not be told is found by the sweep.
"""

from __future__ import annotations

import atexit
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

logger = logging.getLogger("django_webhooks.wakeups")

#: Ids that one message carries at the most; the worker finds the others by itself.
MAX_IDS = 100
#: Ids that wait for the broker at the most.
MAX_WAITING = 10_000
#: Seconds between two messages of one process.
PAUSE = 0.05
#: Seconds that the end of the process waits for the last message.
PATIENCE_AT_EXIT = 2.0
#: In the place of an id, where a worker is to look for whatever there is.
_WHATEVER = ""


class Waker:
    """Publish wake-ups from a thread of its own, started when it is first needed."""

    def __init__(
        self,
        publish: Callable[[list[str]], None],
        *,
        pause: float = PAUSE,
        pause_after_failure: float = 1.0,
    ):
        self._publish = publish
        self._pause, self._pause_after_failure = pause, pause_after_failure
        #: Ids that wait for the broker, and events of those who wait for what came before them.
        self._asked: queue.SimpleQueue[str | threading.Event]
        self._thread: threading.Thread | None
        self._starting: threading.Lock
        #: Whether the thread leaves a broker alone that has just failed.
        self._is_resting: bool
        self._start_afresh()
        os.register_at_fork(after_in_child=self._start_afresh)
        atexit.register(self.flush)

    def wake(self, ids: Sequence[str] = ()) -> None:
        """Ask for these to be looked at, or, without ids, for whatever there is; returns at once.

        Raise RuntimeError where the process can have no further thread.
        """
        asked = self._asked
        for one in ids[: max(0, MAX_WAITING - asked.qsize())]:
            asked.put(one)
        if not ids and asked.empty():
            # What waits for the thread already is published later than now, which is as good.
            asked.put(_WHATEVER)
        if self._thread is None:
            self._start()

    def flush(self, *, timeout: float = PATIENCE_AT_EXIT) -> bool:
        """Wait until all was published, at most ``timeout`` seconds; say whether it was."""
        # While it rests, nothing but what the queue holds is left to publish.
        if self._thread is None or (self._is_resting and self._asked.empty()):
            return True
        reached = threading.Event()
        self._asked.put(reached)
        return reached.wait(timeout)

    def _start_afresh(self) -> None:
        # A forked child inherits the ids, which its parent publishes, and not the thread.
        self._asked = queue.SimpleQueue()
        self._thread = None
        self._starting = threading.Lock()
        self._is_resting = False

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="webhooks-waker", daemon=True)
                # Where no thread is to be had now, the next wake-up tries again.
                thread.start()
                self._thread = thread

    def _run(self) -> None:
        while True:
            ids, reached = self._next()
            failed = False
            try:
                if ids:
                    self._publish([one for one in ids if one is not _WHATEVER])
            except Exception as error:
                failed = True
                logger.warning(
                    "The broker could not be told of deliveries (%d), the sweep will find them: %s",
                    len(ids),
                    error,
                )
                # What waits would fail as well.
                reached += [one for one in self._rest() if isinstance(one, threading.Event)]
            self._is_resting = failed
            for one in reached:
                one.set()
            if failed:
                time.sleep(self._pause_after_failure)
                self._is_resting = False
            elif ids:
                time.sleep(self._pause)

    def _next(self) -> tuple[list[str], list[threading.Event]]:
        """Wait for ids, and return those of one message and who waits for them."""
        ids, one = [], self._asked.get()
        with suppress(queue.Empty):
            while not isinstance(one, threading.Event):
                ids.append(one)
                if len(ids) == MAX_IDS:
                    return ids, []
                one = self._asked.get_nowait()
            return ids, [one]
        return ids, []

    def _rest(self) -> Iterator[str | threading.Event]:
        with suppress(queue.Empty):
            while True:
                yield self._asked.get_nowait()

"""Wake-ups: tell a worker to look now; who asks never waits for the broker, nor fails.

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
from typing import Any

from django.conf import settings as django_settings

from . import tasks
from .models import Event

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
#: What the names of the setting have in common: there is an old one, and one with a prefix.
_NAME = "always_eager"


def begin_replay(bulk_replay_id: str) -> None:
    """Tell a worker to begin a bulk replay. Never raises: the sweep finds it as well."""
    try:
        tasks.replay.apply_async((bulk_replay_id,), retry=False)
    except Exception:
        logger.exception("No worker could be told of bulk replay %s.", bulk_replay_id)


def wake(delivery_ids: Sequence[str] = ()) -> None:
    """Tell a worker to look now, at these or at whatever is due.

    Returns at once and never raises.
    """
    try:
        if _is_eager(tasks.project_app()):
            tasks.deliver.delay(list(delivery_ids))
        else:
            _waker.wake(list(delivery_ids))
    except Exception:
        logger.exception("No worker could be told of %d deliveries.", len(delivery_ids))


def wake_for_events(events: Sequence[Event]) -> None:
    """Tell a worker to fan out what was recorded. Returns at once and never raises."""
    try:
        if _is_eager(tasks.project_app()):
            # Nobody else does it, and who emits waits for these alone.
            tasks.deliver.delay([], event_ids=[str(one.pk) for one in events])
        else:
            _waker.wake()
    except Exception:
        logger.exception("No worker could be told of %d events.", len(events))


def _publish(delivery_ids: list[str]) -> None:
    tasks.deliver.apply_async((delivery_ids,) if delivery_ids else (), retry=False)


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


class Eagerness:
    """Whether tasks run in the thread that asks for them, as the settings of Celery say.

    Each commit that wakes a worker asks. For a setting that a project leaves out Celery tries four
    names in three places, which takes 0.07 of the time of a publish: more than to draft an event.
    So it is remembered of the settings there are that none of them is this one.
    """

    def __init__(self) -> None:
        #: Settings of Celery and of Django that do not mention it, and how many each has.
        self._silent: tuple[Any, int, Any, int] = (None, 0, None, 0)

    def __call__(self, app: Any) -> bool:
        """Say whether ``task_always_eager`` is set for an app of Celery."""
        # An override replaces the settings of Django, and what is added to either is one more.
        conf, project = app.conf, vars(django_settings).get("_wrapped")
        changes, own = len(getattr(conf, "changes", ())), len(getattr(project, "__dict__", ()))
        silent = self._silent
        if conf is silent[0] and project is silent[2] and changes == silent[1] and own == silent[3]:
            return False
        is_eager = bool(conf.task_always_eager)
        if app.conf is conf and not _mentions(conf):
            self._silent = (conf, changes, project, own)
        return is_eager


def _mentions(conf: Any) -> bool:
    """Say whether anything but Celery's defaults, which are the last, has the setting."""
    return any(_NAME in str(key).lower() for one in conf.maps[:-1] for key in one)


_is_eager = Eagerness()
_waker = Waker(_publish)

"""The sliding window: requests under way at once, as many as help and no more.

One request begins after the other while answers come quickly, because threads that share a
processor only get in each other's way. A request that takes longer than ``PATIENCE`` stops
counting, much sooner where its key is known to take its time, so that the next begins
beside it: up to ``size`` at once, and up to ``per_key`` for one key, so that a slow receiver holds
back nobody but itself. A job keeps its place until its result
has been collected, which bounds what a killed worker can repeat.

Many slow receivers must not hold all places either. Those that answered slowly the last time, or
have not answered for ``SLOW`` seconds, hold three quarters of them at the most. A key that nothing
is known of begins beside them, with one request until that is answered, but leaves the last places
to those that are known to be quick. So there is always room for who answers at once; while places
are plenty none of this is looked at.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from .slowness import SLOW, Slowness

Job = TypeVar("Job")
Result = TypeVar("Result")

#: Seconds after which a request no longer holds back the next: three times as long as one thread of
#: Python may keep the others from running. With less, a quick one seems slow when it only waits.
PATIENCE = 0.015
#: The same for a key that takes its time; not none at all, lest many begin at one moment.
LEISURELY_PATIENCE = 0.002


class Window(Generic[Job, Result]):
    """Call ``work`` for each job in a thread.

    The owner submits and collects from one thread. An error of ``work`` reaches it at ``collect``.
    """

    def __init__(
        self,
        work: Callable[[Job], Result],
        *,
        size: int,
        per_key: int,
        is_urgent: Callable[[Result], bool] = lambda result: False,
        slowness: Slowness | None = None,
    ) -> None:
        self._work, self._is_urgent = work, is_urgent
        self._size, self._per_key = size, per_key
        self._slowness = slowness or Slowness()
        #: Places of slow keys together, and of these with those that nothing is known of.
        self._open_size = size - max(1, size // 8) if size > 2 else size
        self._slow_size = max(1, min(size * 3 // 4, self._open_size - 1))
        lock = threading.Lock()
        self._startable_changed = threading.Condition(lock)
        self._result_added = threading.Condition(lock)
        self._queues: dict[Hashable, deque[Job]] = {}
        self._began: dict[Hashable, list[float]] = {}
        self._done: list[Result] = []
        #: The moment at which the request began that holds back the next, and until when it does.
        self._fresh_at = self._fresh_until = 0.0
        self._running = self._threads = self._idle = 0
        self._someone_waits_for_patience = False
        #: Keys with an urgent result: nothing of theirs begins before its owner has dealt with it.
        self._stopped: set[Hashable] = set()
        self._collected: set[Hashable] = set()
        self._wanted = 0
        self._is_closed = False
        self._failure: Exception | None = None

    def submit(self, job: Job, *, key: Hashable) -> None:
        """Queue a job."""
        with self._startable_changed:
            self._queues.setdefault(key, deque()).append(job)
            self._let_in()

    def collect(self, *, timeout: float, group: int = 32) -> list[Result]:
        """Return results, and give their places to further jobs.

        Wait for ``group`` of them, for an urgent one, or until no job is left, at most ``timeout``
        seconds. After an urgent result its key begins nothing before the next call.
        """
        ends = time.monotonic() + timeout
        with self._result_added:
            if self._collected:
                self._stopped -= self._collected
                self._let_in()
            self._wanted = min(group, self._size)
            while not self._has_enough():
                left = ends - time.monotonic()
                if left <= 0 or not self._result_added.wait(left):
                    break
            if self._failure is not None:
                raise self._failure
            results, self._done = self._done, []
            self._collected = set(self._stopped)
            if results:
                self._let_in()
        return results

    def withdraw(self) -> list[Job]:
        """Take back and return the jobs that have not begun."""
        with self._startable_changed:
            jobs = [job for queue in self._queues.values() for job in queue]
            self._queues.clear()
        return jobs

    def close(self) -> None:
        """Begin no further job. What is under way ends by itself, and its result is dropped."""
        with self._startable_changed:
            self._is_closed = True
            self._queues.clear()
            self._startable_changed.notify_all()

    @property
    def is_empty(self) -> bool:
        """Whether nothing is queued, under way, or waits to be collected."""
        with self._startable_changed:
            return not (self._queues or self._running or self._done or self._failure)

    @property
    def startable(self) -> int:
        """Queued jobs that wait for their turn, not for a place of their key or of slow ones."""
        with self._startable_changed:
            has_place = self._places()
            return sum(
                len(jobs)
                for key, jobs in self._queues.items()
                if len(self._began.get(key, ())) < self._per_key and has_place(key)
            )

    @property
    def keys_under_way(self) -> set[Hashable]:
        """Keys with a job queued or under way."""
        with self._startable_changed:
            return set(self._queues) | {key for key, began in self._began.items() if began}

    def load(self, key: Hashable) -> int:
        """Return how many jobs of a key are queued or under way."""
        with self._startable_changed:
            return len(self._queues.get(key, ())) + len(self._began.get(key, ()))

    def crowded_keys(self, *, beyond: int) -> set[Hashable]:
        """Keys with more jobs queued than that."""
        with self._startable_changed:
            return {key for key, jobs in self._queues.items() if len(jobs) > beyond}

    @property
    def slow_keys(self) -> set[Hashable]:
        """Keys with a job that has been under way for long, or that is expected to be."""
        with self._startable_changed:
            now = time.monotonic()
            keys = set(self._queues) | set(self._began)
            return {key for key in keys if self._is_slow(key, now)}

    def _let_in(self) -> None:
        if self._idle:
            self._startable_changed.notify()
        elif self._threads < self._size and not self._is_closed:
            self._threads += 1
            threading.Thread(target=self._run, name="webhooks-sender", daemon=True).start()

    def _run(self) -> None:
        with self._startable_changed:
            while True:
                began = self._wait_for_turn()
                if began is None:
                    self._threads -= 1
                    return
                key, job, at = began
                if not self._someone_waits_for_patience:
                    # Who waits for that looks by itself: a wake-up for each job costs more.
                    self._let_in()
                self._startable_changed.release()
                results: list[Result] = []
                try:
                    results.append(self._work(job))
                except Exception as error:
                    self._failure = error
                finally:
                    self._startable_changed.acquire()
                self._finish(key, at, results)

    def _wait_for_turn(self) -> tuple[Hashable, Job, float] | None:
        while not self._is_closed:
            key = self._next_key()
            if key is None:
                self._wait(None)
                continue
            now = time.monotonic()
            if self._fresh_until <= now:
                return self._begin(key, now)
            # One thread waits for the moment at which it may begin, the others for that one.
            if self._someone_waits_for_patience:
                self._wait(None)
            else:
                self._someone_waits_for_patience = True
                self._wait(self._fresh_until - now)
                self._someone_waits_for_patience = False
        return None

    def _wait(self, timeout: float | None) -> None:
        self._idle += 1
        self._startable_changed.wait(timeout)
        self._idle -= 1

    def _next_key(self) -> Hashable | None:
        if self._running + len(self._done) >= self._size:
            return None
        has_place = self._places()
        for key in self._queues:
            if (
                key not in self._stopped
                and len(self._began.get(key, ())) < self._per_key
                and has_place(key)
            ):
                return key
        return None

    def _places(self) -> Callable[[Hashable], bool]:
        """Return what says whether there is a place for a key, as quick as it is."""
        if self._running < self._slow_size:
            return _anybody
        now, slow, unknown = time.monotonic(), 0, 0
        for key, began in self._began.items():
            if self._is_slow(key, now):
                slow += len(began)
            elif not self._slowness.is_quick(key, now=now):
                unknown += len(began)

        def has_place(key: Hashable) -> bool:
            if self._is_slow(key, now):
                # What nothing is known of yet may turn out to be slow as well.
                return slow + unknown < self._slow_size
            if self._slowness.is_quick(key, now=now):
                return True
            return slow + unknown < self._open_size and key not in self._began

        return has_place

    def _is_slow(self, key: Hashable, now: float) -> bool:
        began = self._began.get(key)
        if began and began[0] < now - SLOW:
            return True
        return self._slowness.is_slow(key, now=now)

    def _takes_its_time(self, key: Hashable, now: float) -> bool:
        """Say whether requests of a key need not be waited for: they take longer than that."""
        began = self._began.get(key)
        if began and began[0] < now - PATIENCE:
            return True
        memory = self._slowness
        return memory.takes_its_time(key, now=now) or memory.is_slow(key, now=now)

    def _begin(self, key: Hashable, now: float) -> tuple[Hashable, Job, float]:
        jobs = self._queues.pop(key)
        job = jobs.popleft()
        if jobs:
            # To the end, so that keys take turns.
            self._queues[key] = jobs
        patience = LEISURELY_PATIENCE if self._takes_its_time(key, now) else PATIENCE
        self._fresh_at, self._fresh_until = now, now + patience
        self._began.setdefault(key, []).append(now)
        self._running += 1
        return key, job, now

    def _finish(self, key: Hashable, at: float, results: list[Result]) -> None:
        self._began[key].remove(at)
        if not self._began[key]:
            del self._began[key]
        if at == self._fresh_at:
            self._fresh_until = 0.0
        now = time.monotonic()
        self._slowness.note(key, seconds=now - at, now=now)
        self._running -= 1
        self._done += results
        if any(self._is_urgent(result) for result in results):
            self._stopped.add(key)
        if self._has_enough():
            self._result_added.notify()

    def _has_enough(self) -> bool:
        if self._failure is not None or len(self._done) >= self._wanted:
            return True
        if self._stopped - self._collected and self._done:
            return True
        return not (self._running or self._queues)


def _anybody(key: Hashable) -> bool:
    return True

"""The executor: a pool of threads that runs requests at once, fairly.

Up to ``size`` requests are under way at once, and keys take turns. A key begins with one request,
has one more with each that goes well, up to ``per_key``, and half as many with each bad result: a
slow receiver holds back nobody but itself, and one that fails gets few requests before that is
known. With results that are not safe yet they are twice ``size`` at the most, which bounds what a
killed worker can repeat.

Many slow receivers must not hold all places either. Those that answered slowly the last time, or
have not answered for ``SLOW`` seconds, hold three quarters of them at the most. Keys that nothing
is known of begin beside them, but leave the last places to those that are known to be quick. So
there is always room for who answers at once; while places are plenty none of this is looked at.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Set
from enum import Enum
from typing import Generic, TypeVar

from ... import process_state

Job = TypeVar("Job")
Result = TypeVar("Result")

#: Requests that a key begins with: few, since nobody knows yet whether they will go well.
FIRST = 1
#: Seconds after which an answer, or a request that has none yet, is slow.
SLOW = 0.25
#: Part of the average that the last request is.
WEIGHT = 0.25
#: Seconds for which an average is remembered: a receiver that became quick is not slow for ever.
REMEMBERED = 120.0
#: Receivers that are remembered at the most.
MOST = 10_000


class Judgement(Enum):
    """What a result says of its key."""

    WELL = "it may have one more request under way"
    NEUTRAL = "nothing"
    BAD = "it may have half as many"
    URGENT = "the same, and none begins before the owner has dealt with this result"


class Latencies:
    """The averages of what keys take to answer. Its methods may be called by many threads."""

    def __init__(self) -> None:
        #: Seconds that requests take on average, and until when that is remembered.
        self._averages: dict[Hashable, tuple[float, float]] = {}

    def forget(self) -> None:
        """Know nothing of anybody."""
        self._averages.clear()

    def note(self, key: Hashable, *, seconds: float, now: float) -> None:
        """Remember how long a request of a key took.

        A key that was slow and answers quickly is quick at once. One that was quick is not slow
        because of one answer that this process, being busy, was late to see.
        """
        average = self._average(key, now)
        if average is not None and average < SLOW:
            seconds = average + (seconds - average) * WEIGHT
        if len(self._averages) >= MOST and key not in self._averages:
            self._averages.clear()
        self._averages[key] = (seconds, now + REMEMBERED)

    def is_slow(self, key: Hashable, *, now: float) -> bool:
        """Say whether a key answers slowly."""
        average = self._average(key, now)
        return average is not None and average >= SLOW

    def is_quick(self, key: Hashable, *, now: float) -> bool:
        """Say whether a key answers quickly; neither where nothing is known of it."""
        average = self._average(key, now)
        return average is not None and average < SLOW

    def _average(self, key: Hashable, now: float) -> float | None:
        average, until = self._averages.get(key, (0.0, 0.0))
        return average if until > now else None


#: What this process knows, from one run of a worker to the next.
latencies = process_state.remember(Latencies(), forget=Latencies.forget)


class Executor(Generic[Job, Result]):
    """Call ``work`` for each job in a thread.

    The owner submits and collects from one thread. An error of ``work`` reaches it at ``collect``.
    """

    def __init__(
        self,
        work: Callable[[Job], Result],
        *,
        size: int,
        per_key: int,
        judge: Callable[[Result], Judgement] = lambda result: Judgement.WELL,
        known: Latencies | None = None,
    ) -> None:
        self._work, self._judge = work, judge
        self._size, self._per_key = size, per_key
        self._latencies = known or Latencies()
        #: Places of slow keys together, and of these with those that nothing is known of.
        self._open_size = size - max(1, size // 8) if size > 2 else size
        self._slow_size = max(1, min(size * 3 // 4, self._open_size - 1))
        lock = threading.Lock()
        self._startable_changed = threading.Condition(lock)
        self._result_added = threading.Condition(lock)
        self._queues: dict[Hashable, deque[Job]] = {}
        #: The moments at which the requests of each key that are under way began.
        self._began: dict[Hashable, list[float]] = {}
        #: How many requests of each key may be under way; FIRST where it is not here.
        self._allowed: dict[Hashable, int] = {}
        self._done: list[Result] = []
        #: Results that were collected, until their owner says that they are safe.
        self._handed_out: list[Result] = []
        self._running = self._threads = self._idle = 0
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
        """Return results.

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
            results = self._done
            # In this order: the owner may be interrupted at any moment, as by a time limit.
            self._handed_out = [*self._handed_out, *results]
            self._done = []
            self._collected = set(self._stopped)
        return results

    def settle(self) -> None:
        """Forget what was collected so far: it is safe."""
        with self._startable_changed:
            self._handed_out = []
            self._let_in()

    @property
    def unsettled(self) -> list[Result]:
        """What was collected and is not safe yet."""
        return list(self._handed_out)

    def withdraw_one(self, key: Hashable) -> Job | None:
        """Take back the job of a key that would begin last; None where none waits."""
        with self._startable_changed:
            jobs = self._queues.get(key)
            job = jobs.pop() if jobs else None
            if jobs is not None and not jobs:
                del self._queues[key]
        return job

    def withdraw(self, keys: Set[Hashable] | None = None) -> list[Job]:
        """Take back and return the jobs of these keys, or of all, that have not begun."""
        with self._startable_changed:
            found = list(self._queues) if keys is None else [*self._queues.keys() & keys]
            return [job for key in found for job in self._queues.pop(key)]

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
            return sum(len(jobs) for key, jobs in self._queues.items() if has_place(key))

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
            return {key for key in {*self._queues, *self._began} if self._is_slow(key, now)}

    def _let_in(self) -> None:
        """Wake a thread that looks for a job, or start one."""
        if self._idle:
            self._startable_changed.notify()
        elif self._threads < self._size and not self._is_closed and self._next_key() is not None:
            self._threads += 1
            threading.Thread(target=self._run, name="webhooks-sender", daemon=True).start()

    def _run(self) -> None:
        with self._startable_changed:
            while not self._is_closed:
                key = self._next_key()
                if key is None:
                    self._idle += 1
                    self._startable_changed.wait()
                    self._idle -= 1
                    continue
                job, at = self._begin(key)
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
            self._threads -= 1

    def _next_key(self) -> Hashable | None:
        unsafe = self._running + len(self._done) + len(self._handed_out)
        if not self._queues or self._running >= self._size or unsafe >= 2 * self._size:
            return None
        has_place = self._places()
        for key in self._queues:
            if key not in self._stopped and has_place(key):
                return key
        return None

    def _places(self) -> Callable[[Hashable], bool]:
        """Return what says whether there is a place for a key."""

        def has_own(key: Hashable) -> bool:
            return len(self._began.get(key, ())) < self._allowed.get(key, FIRST)

        if self._running < self._slow_size:
            return has_own
        now, slow, unknown = time.monotonic(), 0, 0
        for key, began in self._began.items():
            if self._is_slow(key, now):
                slow += len(began)
            elif not self._latencies.is_quick(key, now=now):
                unknown += len(began)

        def has_place(key: Hashable) -> bool:
            if not has_own(key):
                return False
            if self._is_slow(key, now):
                # What nothing is known of yet may turn out to be slow as well.
                return slow + unknown < self._slow_size
            if self._latencies.is_quick(key, now=now):
                return True
            return slow + unknown < self._open_size

        return has_place

    def _is_slow(self, key: Hashable, now: float) -> bool:
        began = self._began.get(key)
        if began and began[0] < now - SLOW:
            return True
        return self._latencies.is_slow(key, now=now)

    def _begin(self, key: Hashable) -> tuple[Job, float]:
        jobs = self._queues.pop(key)
        job, now = jobs.popleft(), time.monotonic()
        if jobs:
            # To the end, so that keys take turns.
            self._queues[key] = jobs
        self._began.setdefault(key, []).append(now)
        self._running += 1
        return job, now

    def _finish(self, key: Hashable, at: float, results: list[Result]) -> None:
        self._began[key].remove(at)
        if not self._began[key]:
            del self._began[key]
        now = time.monotonic()
        self._latencies.note(key, seconds=now - at, now=now)
        self._running -= 1
        self._done += results
        for judgement in map(self._judge, results):
            if judgement is Judgement.WELL:
                self._allowed[key] = min(self._allowed.get(key, FIRST) + 1, self._per_key)
            elif judgement is not Judgement.NEUTRAL:
                self._allowed[key] = max(self._allowed.get(key, FIRST) // 2, 1)
            if judgement is Judgement.URGENT:
                self._stopped.add(key)
        if self._has_enough():
            self._result_added.notify()

    def _has_enough(self) -> bool:
        if self._failure is not None or len(self._done) >= self._wanted:
            return True
        if self._stopped - self._collected and self._done:
            return True
        return not (self._running or self._queues)

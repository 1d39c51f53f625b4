"""The executor beside a plain pool of threads, with receivers that take their time, in one run.

    python -m benchmarks.executor [--seconds 3] [--runs 3] [--json]

One process drains a backlog for ten endpoints, in turns: with the executor of the workers, and with
a plain pool that has as many threads, a bound for each endpoint, the same bound of results that are
not recorded, and nothing else. Both lease, sign, send and record alike. A naive pool beside them
posts as many bytes by ``requests`` from as many threads, unsigned, and reads and records nothing.
The endpoints answer after 0, 5, 20, 50 and 150 ms, after each of these (mixed), or after 5 ms but
for one that never does (hanging), whose deliveries are not counted.
"""

from __future__ import annotations

import json
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import cycle, islice
from typing import Any
from unittest import mock

from benchmarks import testbed

ENDPOINTS = 10
#: Seconds until the answer of each endpoint; ten of them take turns.
DELAYS = {
    "0 ms": "0",
    "5 ms": "0.005",
    "20 ms": "0.02",
    "50 ms": "0.05",
    "150 ms": "0.15",
    "mixed": "0 0.005 0.02 0.05 0.15",
    "hanging": " ".join(["3600"] + ["0.005"] * 9),
}
#: Deliveries a second that the backlog is made for: no run ends before its time.
MOST = {"0 ms": 2500, "5 ms": 2000, "20 ms": 1600, "50 ms": 1200, "150 ms": 600}
#: Seconds after which a request to what hangs is over.
TIMEOUT = 2.0


class PlainPool:
    """As many threads as there are places: each takes the next job of a key that has room."""

    def __init__(
        self, work: Callable[[Any], Any], *, size: int, per_key: int, **others: Any
    ) -> None:
        self._work, self._size, self._per_key = work, size, per_key
        self._changed = threading.Condition()
        self._queues: dict[Hashable, deque[Any]] = {}
        self._under_way: dict[Hashable, int] = {}
        self._done: list[Any] = []
        self.unsettled: list[Any] = []
        self._threads = 0
        self._is_closed = False

    def submit(self, job: Any, *, key: Hashable) -> None:
        """Queue a job."""
        with self._changed:
            self._queues.setdefault(key, deque()).append(job)
            if self._threads < self._size:
                self._threads += 1
                threading.Thread(target=self._run, daemon=True).start()
            self._changed.notify()

    def collect(self, *, timeout: float) -> list[Any]:
        """Return what is done after that time, or as soon as there is much, or no more to do."""
        ends = time.monotonic() + timeout
        while (left := ends - time.monotonic()) > 0 and len(self._done) < 32:
            if not (self._queues or self._under_way):
                break
            time.sleep(min(left, 0.005))
        with self._changed:
            self.unsettled, self._done = self._done, []
            return self.unsettled

    def settle(self) -> None:
        """Forget what was collected."""
        with self._changed:
            self.unsettled = []
            self._changed.notify_all()

    def withdraw(self, keys: set[Hashable] | None = None) -> list[Any]:
        """Take back what has not begun, of these keys or of all."""
        with self._changed:
            found = list(self._queues) if keys is None else [*self._queues.keys() & keys]
            return [job for key in found for job in self._queues.pop(key)]

    def withdraw_one(self, key: Hashable) -> None:
        """Leave the order as it is."""

    def close(self) -> None:
        """End the threads."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    @property
    def is_empty(self) -> bool:
        """Whether nothing is queued, under way or done."""
        with self._changed:
            return not (self._queues or self._under_way or self._done)

    @property
    def startable(self) -> int:
        """Jobs of keys that have room."""
        with self._changed:
            return sum(len(self._queues[key]) for key in self._queues if self._has_room(key))

    @property
    def slow_keys(self) -> set[Hashable]:
        """Keys that have no room, as far as this pool knows."""
        with self._changed:
            return {key for key in self._under_way if not self._has_room(key)}

    def crowded_keys(self, *, beyond: int) -> set[Hashable]:
        """Keys with more jobs queued than that."""
        with self._changed:
            return {key for key, jobs in self._queues.items() if len(jobs) > beyond}

    def _has_room(self, key: Hashable) -> bool:
        return self._under_way.get(key, 0) < self._per_key

    def _run(self) -> None:
        with self._changed:
            while not self._is_closed:
                key = next(filter(self._has_room, self._queues), None)
                held = len(self._done) + len(self.unsettled) + sum(self._under_way.values())
                if key is None or held >= 2 * self._size:
                    self._changed.wait()
                    continue
                jobs = self._queues.pop(key)
                job = jobs.popleft()
                if jobs:
                    self._queues[key] = jobs
                self._under_way[key] = self._under_way.get(key, 0) + 1
                self._changed.release()
                result = self._work(job)
                self._changed.acquire()
                self._done.append(result)
                self._under_way[key] -= 1
                if not self._under_way[key]:
                    del self._under_way[key]
                self._changed.notify()


class Counter:
    """How many deliveries succeeded in a stretch of time, and when the last did."""

    def __init__(self) -> None:
        self.count, self.began, self.last = 0, time.monotonic(), time.monotonic()
        self._spent = time.process_time()

    def __call__(self, **_: Any) -> None:
        """Hear of one."""
        self.count, self.last = self.count + 1, time.monotonic()

    def told(self) -> dict[str, float]:
        """Return deliveries a second, and seconds of the processor for 1,000."""
        spent = time.process_time() - self._spent
        return {
            "per_second": self.count / (self.last - self.began),
            "seconds_per_1000": spent * 1000 / self.count,
        }


def drain(urls: list[str], *, deliveries: int, seconds: float) -> dict[str, float]:
    """Drain a backlog for that long and return the speed."""
    from django_webhooks import process_state, signals
    from django_webhooks.sending import worker

    testbed.clear()
    process_state.forget()
    for number, url in enumerate(urls):
        testbed.subscribe(url, name=str(number), event_types=[f"order.of_{number}"])
    testbed.backlog(deliveries, types=[f"order.of_{number}" for number in range(len(urls))])
    counter = Counter()
    signals.delivery_succeeded.connect(counter)
    try:
        while time.monotonic() < counter.began + seconds:
            worker.drain()
    finally:
        signals.delivery_succeeded.disconnect(counter)
    return counter.told()


def plain(urls: list[str], **options: Any) -> dict[str, float]:
    """Do the same with the plain pool."""
    from django_webhooks.sending.worker import dispatch

    with mock.patch.object(dispatch, "Executor", PlainPool):
        return drain(urls, **options)


def naive(urls: list[str], *, deliveries: int, seconds: float) -> dict[str, float]:
    """Post for that long from as many threads and return the speed."""
    import requests

    from django_webhooks.conf import settings

    body = json.dumps({"type": "order.paid", "timestamp": "", "data": testbed.PAYLOAD})
    own = threading.local()
    counter = Counter()

    def post(url: str) -> None:
        if time.monotonic() > counter.began + seconds:
            return
        if not hasattr(own, "session"):
            own.session = requests.Session()
        try:
            own.session.post(url, data=body, timeout=TIMEOUT)
        except requests.RequestException:
            return
        counter()

    with ThreadPoolExecutor(settings.WEBHOOKS_MAX_IN_FLIGHT) as pool:
        list(pool.map(post, islice(cycle(urls), deliveries)))
    return counter.told()


@contextmanager
def _bounds(seconds: float) -> Iterator[None]:
    from django.test import override_settings

    from django_webhooks.sending.worker import dispatch

    with (
        override_settings(WEBHOOKS_TIMEOUT_SECONDS=TIMEOUT),
        mock.patch.object(dispatch, "DRAIN_SECONDS", seconds),
    ):
        yield


def main() -> dict[str, Any]:
    """Run the benchmark and print its table or JSON."""
    options = testbed.options(__doc__, seconds=3.0, runs=3, only="")
    testbed.prepare()
    result: dict[str, Any] = {"runs": options.runs}
    rows = []
    for name, delays in DELAYS.items():
        if options.only and name not in options.only.split(","):
            continue
        found: dict[str, list[dict[str, float]]] = {"ours": [], "plain": [], "naive": []}
        count = int(MOST.get(name, 2000) * options.seconds)
        manner = ("--ports", str(ENDPOINTS), "--manner", f"slow {delays}")
        with testbed.receivers(*manner) as urls, _bounds(options.seconds):
            for _ in range(options.runs):
                given = {"deliveries": count, "seconds": options.seconds}
                found["naive"].append(naive(urls, **given))
                found["ours"].append(drain(urls, **given))
                found["plain"].append(plain(urls, **given))
        one = {
            f"{who}_{what}": round(statistics.median(run[what] for run in runs), 3)
            for who, runs in found.items()
            for what in ("per_second", "seconds_per_1000")
        }
        for who in ("plain", "naive"):
            ratios = [
                run["per_second"] / other["per_second"]
                for run, other in zip(found["ours"], found[who], strict=True)
            ]
            one[f"ratio_{who}"] = round(statistics.median(ratios), 2)
        result[name] = one
        columns = ("ratio_plain", "ratio_naive", "ours_per_second", "ours_seconds_per_1000")
        rows.append([name, *(one[column] for column in columns), one["plain_seconds_per_1000"]])
    testbed.clear()
    heads = ["answers after", "plain pool", "naive pool", "a second", "processor", "plain"]
    testbed.tell(result, rows, heads=heads, as_json=options.json)
    return result


if __name__ == "__main__":
    main()

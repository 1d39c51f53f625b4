"""From commit to arrival on an idle system, beside a bare Celery task that posts, in one run.

    python -m benchmarks.latency [--events 200] [--runs 3] [--concurrency 2] [--json]

Saves a row every 50 to 100 ms, in turns: one that a hook tells of, and one after whose commit a
plain Celery task is sent that posts as many bytes with ``requests`` over a kept connection. Both
run in the same worker. The receiver stamps arrivals by the monotonic clock that all processes of
the machine share.
"""

from __future__ import annotations

import random
import statistics
import time
import uuid
from typing import Any

from benchmarks import testbed

#: Events of each kind before those that are measured: every process has sent some by then.
WARM_UP = 10
LIMIT_SECONDS = 30


def measure(events: int, receiver: testbed.Receiving) -> dict[str, list[float]]:
    """Commit in turns and return the milliseconds of each kind."""
    committed: dict[str, dict[str, float]] = {"webhook": {}, "bare": {}}
    for _ in range(events + WARM_UP):
        for kind, send in random.sample([("webhook", _webhook), ("bare", _bare)], 2):
            send(receiver.urls[0], committed[kind])
            time.sleep(random.uniform(0.05, 0.1))
    arrived = _arrived(receiver, {key for moments in committed.values() for key in moments})
    return {
        kind: [(arrived[key] - at) * 1000 for key, at in list(moments.items())[WARM_UP:]]
        for kind, moments in committed.items()
    }


def _webhook(url: str, committed: dict[str, float]) -> None:
    from django.db import transaction

    from benchmarks.models import Order
    from django_webhooks.models import Event

    moments = []
    with transaction.atomic():
        # The first of the hooks, so that it runs directly after the commit.
        transaction.on_commit(lambda: moments.append(time.monotonic()))
        Order.objects.create()
        # Before the commit: afterwards this process is as idle as it is beside the bare task.
        key = Event.objects.latest("pk").message_id
    committed[key] = moments[0]


def _bare(url: str, committed: dict[str, float]) -> None:
    from django.db import transaction

    from benchmarks.models import Note
    from benchmarks.tasks import post

    key = f"bare_{uuid.uuid4().hex}"
    with transaction.atomic():
        transaction.on_commit(lambda: committed.__setitem__(key, time.monotonic()))
        transaction.on_commit(lambda: post.delay(url, key))
        Note.objects.create()


def _arrived(receiver: testbed.Receiving, keys: set[str]) -> dict[str, float]:
    ends = time.monotonic() + LIMIT_SECONDS
    while left := keys - receiver.first_moments().keys():
        if time.monotonic() > ends:
            raise SystemExit(f"{len(left)} have not arrived after {LIMIT_SECONDS} s.")
        time.sleep(0.2)
    return receiver.first_moments()


def main() -> dict[str, Any]:
    """Run the benchmark and print its table or JSON."""
    options = testbed.options(__doc__, events=200, runs=3, concurrency=2)
    testbed.prepare()
    runs = []
    with testbed.logging_receiver() as receiver:
        for _ in range(options.runs):
            testbed.clear()
            testbed.subscribe(receiver.urls[0], event_types=["order.*"])
            with testbed.worker(concurrency=options.concurrency):
                runs.append(measure(options.events, receiver))
    testbed.clear()
    result: dict[str, Any] = {"events": options.events, "runs": options.runs}
    for kind in ("webhook", "bare"):
        for share, name in ((0.5, "p50"), (0.99, "p99")):
            found = statistics.median(testbed.percentile(run[kind], share) for run in runs)
            result[f"{kind}_{name}"] = round(found, 2)
    for name in ("p50", "p99"):
        result[f"ratio_{name}"] = round(result[f"webhook_{name}"] / result[f"bare_{name}"], 2)
    rows = [
        ["webhook", *(result[f"{what}_{name}"] for name in ("p50", "p99") for what in _COLUMNS)],
        ["bare task", 1, result["bare_p50"], 1, result["bare_p99"]],
    ]
    heads = ["milliseconds from commit to arrival", "ratio", "p50", "ratio", "p99"]
    testbed.tell(result, rows, heads=heads, as_json=options.json)
    return result


_COLUMNS = ("ratio", "webhook")

if __name__ == "__main__":
    main()

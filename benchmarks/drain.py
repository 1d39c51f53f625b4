"""Deliveries per second: a real worker beside a bare ``requests.Session`` loop, in one run.

    python -m benchmarks.drain [--deliveries 20000] [--runs 3] [--concurrency 2] [--json]

Queues deliveries of 1 KiB, starts a Celery worker (prefork 2) and sweeps once; the worker leases,
vets, signs, sends and records all of them. The same posts are then sent by one process in a loop
with ``requests.Session().post``. Tells the processor time of worker and database for 1,000
deliveries, and the memory of the worker after each quarter of the way.
"""

from __future__ import annotations

import json
import statistics
import time
from typing import Any

from benchmarks import testbed

LIMIT_SECONDS = 300
QUARTERS = 4


def drain(deliveries: int, url: str, *, concurrency: int) -> dict[str, float]:
    """Queue deliveries, let a worker drain them, and return what that took."""
    from django_webhooks import tasks
    from django_webhooks.models import Attempt, Delivery

    testbed.clear()
    testbed.subscribe(url)
    total = testbed.backlog(deliveries)
    with testbed.worker(concurrency=concurrency) as worker:
        worked = testbed.Clock(lambda: testbed.family(worker))
        served = testbed.Clock(testbed.servers_of_postgres)
        memory: list[float] = []
        before = testbed.arrived(url)
        began = time.monotonic()
        tasks.sweep()
        # Asking the receiver costs the database nothing; what arrived is recorded in a moment.
        while (arrived := testbed.arrived(url) - before) < total or _are_left():
            if time.monotonic() - began > LIMIT_SECONDS:
                raise SystemExit(f"{arrived} of {total} have arrived after {LIMIT_SECONDS} s.")
            if arrived >= total * (len(memory) + 1) / QUARTERS and len(memory) < QUARTERS - 1:
                memory.append(testbed.resident_mib(testbed.family(worker)))
            time.sleep(0.05)
        seconds = time.monotonic() - began
        # Of few deliveries a quarter may pass between two looks.
        memory += [testbed.resident_mib(testbed.family(worker))] * (QUARTERS - len(memory))
        worker_seconds, database_seconds = worked.seconds(), served.seconds()
    if Delivery.objects.succeeded().count() != total or Attempt.objects.count() != total:
        raise SystemExit("Not every delivery succeeded at its first attempt, recorded.")
    return {
        "per_second": total / seconds,
        "worker_seconds_per_1000": worker_seconds * 1000 / total,
        "database_seconds_per_1000": database_seconds * 1000 / total,
        **{f"worker_mib_{place}": mib for place, mib in enumerate(memory, start=1)},
    }


def _are_left() -> bool:
    from django_webhooks.models import Delivery

    return Delivery.objects.waiting().exists()


def loop(posts: int, url: str) -> dict[str, float]:
    """Post in a bare loop and return its speed."""
    import requests

    body = json.dumps({"type": "order.paid", "timestamp": "", "data": testbed.PAYLOAD})
    session = requests.Session()
    session.post(url, data=body)
    began, spent = time.monotonic(), time.process_time()
    for _ in range(posts):
        session.post(url, data=body)
    return {
        "per_second": posts / (time.monotonic() - began),
        "seconds_per_1000": (time.process_time() - spent) * 1000 / posts,
    }


def main() -> dict[str, Any]:
    """Run the benchmark and print its table or JSON."""
    options = testbed.options(__doc__, deliveries=20_000, runs=3, concurrency=2)
    testbed.prepare()
    drained, looped = [], []
    with testbed.receiver() as url:
        for _ in range(options.runs):
            looped.append(loop(min(options.deliveries, 5000), url))
            drained.append(drain(options.deliveries, url, concurrency=options.concurrency))

    def median(runs: list[dict[str, float]], name: str) -> float:
        return statistics.median(run[name] for run in runs)

    result = {
        "deliveries": options.deliveries,
        "runs": options.runs,
        "drain_per_second": round(median(drained, "per_second")),
        "loop_per_second": round(median(looped, "per_second")),
        "ratio": round(median(drained, "per_second") / median(looped, "per_second"), 2),
        "loop_seconds_per_1000": round(median(looped, "seconds_per_1000"), 3),
        **{
            name: round(median(drained, name), 3)
            for name in drained[0]
            if name.startswith(("worker", "database"))
        },
    }
    rows = [
        [f"worker, prefork {options.concurrency}", result["drain_per_second"], result["ratio"]],
        ["requests.Session loop", result["loop_per_second"], 1],
    ]
    testbed.tell(result, rows, heads=["", "a second", "ratio"], as_json=options.json)
    if not options.json:
        print(
            f"processor seconds for 1,000: worker {result['worker_seconds_per_1000']}, database "
            f"{result['database_seconds_per_1000']}, loop {result['loop_seconds_per_1000']}"
        )
        memory = [f"{result[f'worker_mib_{place}']:.0f}" for place in range(1, QUARTERS + 1)]
        print(f"MiB of the worker after each quarter: {', '.join(memory)}")
    return result


if __name__ == "__main__":
    main()

"""A healthy endpoint that refuses some requests: how much slower its deliveries are.

    python -m benchmarks.storm --partial [--deliveries 3000] [--every 4] [--status 503]
                                         [--concurrency 2] [--runs 3] [--json]

A backlog is sent by one worker, once to a receiver that answers 204, and once to one that answers
every fourth request otherwise. Compares the seconds until each delivery had its first attempt, in
turns; the target of the ratio is at most 1.5.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

from benchmarks import testbed

LIMIT_SECONDS = 300
TARGET = 1.5


def attempts_per_second(deliveries: int, manner: str, *, concurrency: int) -> float:
    """Send a backlog and return how many attempts were made and recorded in a second."""
    from django_webhooks import tasks
    from django_webhooks.models import Attempt, EndpointHealth

    testbed.clear()
    with testbed.logging_receiver(manner=manner) as receiver:
        testbed.subscribe(receiver.urls[0])
        total = testbed.backlog(deliveries)
        with testbed.worker(concurrency=concurrency):
            began = time.monotonic()
            tasks.sweep()
            while Attempt.objects.count() < total:
                if time.monotonic() - began > LIMIT_SECONDS:
                    raise SystemExit(f"Not all was sent after {LIMIT_SECONDS} s.")
                time.sleep(0.02)
            seconds = time.monotonic() - began
        if EndpointHealth.objects.exclude(state=EndpointHealth.State.HEALTHY).exists():
            raise SystemExit("The endpoint is not healthy any more: that measures something else.")
    return total / seconds


def main() -> dict[str, Any]:
    """Run the benchmark and print its table or JSON."""
    options = testbed.options(__doc__, deliveries=3000, every=4, status=503, concurrency=2, runs=3)
    testbed.prepare()
    manners = {"all 204": "ok", "some refused": f"every {options.every} {options.status}"}
    rates: dict[str, list[float]] = {name: [] for name in manners}
    for _ in range(options.runs):
        for name, manner in manners.items():
            rate = attempts_per_second(options.deliveries, manner, concurrency=options.concurrency)
            rates[name].append(rate)
    testbed.clear()
    well, refused = (statistics.median(one) for one in rates.values())
    result = {
        "deliveries": options.deliveries,
        "refused": f"every {options.every}. by {options.status}",
        "attempts_per_second": {name: round(statistics.median(one)) for name, one in rates.items()},
        "ratio": round(well / refused, 2),
        "target": TARGET,
        "is_met": well / refused <= TARGET,
    }
    rows = [
        ["all answered 204", round(well), 1],
        [f"every {options.every}. by {options.status}", round(refused), result["ratio"]],
    ]
    testbed.tell(
        result, rows, heads=["", "attempts a second", "times slower"], as_json=options.json
    )
    return result

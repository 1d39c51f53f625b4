"""What webhooks add to a save in a transaction, beside one Celery publish, in one run.

    python -m benchmarks.emit [--saves 300] [--runs 5] [--prepared] [--json]

Saves rows of 1 KiB, each in ``with transaction.atomic()``, in turns and in random order: a model
that nobody hooks; one with a hook and one subscription; one with a hook and nobody who listens; and
the first again, followed by the publishing of one Celery task that does nothing. What is added is
the difference to the first: of the whole block with its commit and what runs on commit, of the save
alone before the commit, and of the processor time of the process with what its other threads do
afterwards. No worker runs, so that the caller's own time is measured. ``--prepared`` lets psycopg
prepare what it is asked again and again.
"""

from __future__ import annotations

import os
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from benchmarks import stand

#: What is saved, and whether a Celery task is published afterwards.
KINDS = {"plain": False, "heard": False, "unheard": False, "publish": True}
NAMES = {
    "plain": "no hook",
    "heard": "a hook and a subscription",
    "unheard": "a hook, nobody listens",
    "publish": "no hook, and one Celery publish",
}
#: Saves of each kind before those that are measured.
WARM_UP = 20


@dataclass
class Times:
    """Milliseconds of the saves of one kind."""

    whole: list[float] = field(default_factory=list)
    before_commit: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)
    publish: list[float] = field(default_factory=list)


def measure(saves: int, *, is_update: bool) -> dict[str, Times]:
    """Save in turns and return the times of each kind."""
    from benchmarks.models import Note, Order, Parcel

    models = {"plain": Note, "heard": Order, "unheard": Parcel, "publish": Note}
    rows = {kind: model.objects.create() for kind, model in models.items()}
    times = {kind: Times() for kind in KINDS}
    for number in range(saves + WARM_UP):
        for kind in random.sample(list(KINDS), len(KINDS)):
            row = rows[kind] if is_update else models[kind]()
            row.number = number + 1
            _save(row, times[kind], publishes=KINDS[kind])
    for one in times.values():
        for values in vars(one).values():
            del values[:WARM_UP]
    return times


def _save(row: Any, times: Times, *, publishes: bool) -> None:
    """Save one row as a view would, and let the other threads of the process come to rest."""
    from django.db import transaction

    from benchmarks.tasks import nothing
    from django_webhooks import workers

    spent, began = time.process_time(), time.perf_counter()
    with transaction.atomic():
        row.save()
        saved = time.perf_counter()
    committed = time.perf_counter()
    if publishes:
        nothing.delay()
        times.publish.append((time.perf_counter() - committed) * 1000)
    times.whole.append((time.perf_counter() - began) * 1000)
    times.before_commit.append((saved - began) * 1000)
    workers._waker.flush()
    times.processor.append((time.process_time() - spent) * 1000)


def compare(times: dict[str, Times]) -> dict[str, float]:
    """Return what each kind adds to a plain save, in milliseconds."""
    found = {}
    for share, name in ((0.5, "p50"), (0.99, "p99")):
        plain = stand.percentile(times["plain"].whole, share)
        found[f"plain_{name}"] = plain
        for kind in ("heard", "unheard", "publish"):
            found[f"{kind}_added_{name}"] = stand.percentile(times[kind].whole, share) - plain
        found[f"publish_alone_{name}"] = stand.percentile(times["publish"].publish, share)
    for kind in ("heard", "unheard", "publish"):
        for name in ("before_commit", "processor"):
            found[f"{kind}_added_{name}"] = _added(times, kind, lambda one, n=name: getattr(one, n))
    return found


def _added(times: dict[str, Times], kind: str, of: Callable[[Times], list[float]]) -> float:
    return statistics.median(of(times[kind])) - statistics.median(of(times["plain"]))


def main() -> dict[str, Any]:
    """Run the benchmark and print its table or JSON."""
    options = stand.options(__doc__, saves=300, runs=5, prepared=False)
    if options.prepared:
        os.environ["BENCHMARK_PREPARED"] = "1"
    stand.prepare()
    stand.clear()
    stand.subscribe("http://127.0.0.1:9/hook", event_types=["order.*"])
    runs: dict[str, list[dict[str, float]]] = {"created": [], "updated": []}
    try:
        for _ in range(options.runs):
            for action, found in runs.items():
                found.append(compare(measure(options.saves, is_update=action == "updated")))
    finally:
        stand.clear()
    result: dict[str, Any] = {
        "saves": options.saves,
        "runs": options.runs,
        "prepared": options.prepared,
    }
    rows = []
    for action, found in runs.items():
        result[action] = one = {
            name: round(statistics.median(run[name] for run in found), 3) for name in found[0]
        }
        one["ratio"] = round(one["heard_added_p50"] / one["publish_alone_p50"], 2)
        rows += _rows(action, one)
    heads = ["milliseconds", "ratio", "p50", "p99", "before commit", "processor"]
    stand.tell(result, rows, heads=heads, as_json=options.json)
    if not options.json:
        print("ratio: what is added, to one Celery publish; every line but the first adds to it.")
    return result


def _rows(action: str, one: dict[str, float]) -> list[list[Any]]:
    publish = one["publish_alone_p50"]
    rows: list[list[Any]] = [[f"{action}: no hook", "", one["plain_p50"], one["plain_p99"], "", ""]]
    for kind in ("heard", "unheard", "publish"):
        numbers = [one[f"{kind}_added_{what}"] for what in ("p50", "p99", "before_commit")]
        ratio = round(numbers[0] / publish, 2)
        rows.append([f"  + {NAMES[kind]}", ratio, *numbers, one[f"{kind}_added_processor"]])
    rows.append(["  Celery publish alone", 1, publish, one["publish_alone_p99"], "", ""])
    return rows


if __name__ == "__main__":
    main()

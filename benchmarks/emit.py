"""What webhooks add to a save in a transaction, beside one Celery publish, in one run.

    python -m benchmarks.emit [--saves 300] [--runs 3] [--seconds 5] [--prepared] [--json]

Saves rows of 1 KiB, each in ``with transaction.atomic()``, in turns and in random order: a model
that nobody hooks; one with a hook and 1, 100 and 10 000 subscriptions; one with a hook and nobody
who listens; the first again, followed by the publishing of one Celery task that does nothing; and
with the least that webhooks could cost: a ``SELECT 1``, and the row of an event by ``bulk_create``.
What is added is the difference to the first: of the whole block with its commit and what runs on
commit, and of the save alone before the commit.

Each is also saved a hundred times a second, in turns of a second, and the processor time of the
process is compared, with what its other threads do; ``thread`` is the processor time of the thread
that saves alone, which moves little with what else runs on the machine. No worker runs, so that the
caller's own costs are measured. ``--prepared`` lets psycopg prepare what it is asked again and
again. For MariaDB and SQLite name a database in ``BENCHMARK_DATABASE_URL``, such as ``mysql://root@127.0.0.1/benchmark``
or ``sqlite:////tmp/benchmark.sqlite3``.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import time
from dataclasses import dataclass, field
from typing import Any

from benchmarks import testbed

#: Subscriptions that hear the saves.
COUNTS = (1, 100, 10_000)
#: What is saved: alone, with a hook, or with something else beside it.
KINDS = ("plain", "heard", "unheard", "publish", "select", "insert")
#: The body of an event of 1 KiB.
BODY = json.dumps(testbed.PAYLOAD).encode()
#: Saves of each kind before those that are measured.
WARM_UP = 20
#: Saves a second, where the processor time is measured.
PACE = 100


@dataclass
class Times:
    """Milliseconds of the saves of one kind."""

    whole: list[float] = field(default_factory=list)
    before_commit: list[float] = field(default_factory=list)
    #: Processor time of the thread that saves.
    thread: list[float] = field(default_factory=list)
    publish: list[float] = field(default_factory=list)


def subscribe(count: int) -> None:
    """Let so many subscriptions, and no others, hear the saves."""
    from django.db import connection

    from django_webhooks.models import Subscription
    from django_webhooks.models.event_type_pattern import EventTypePattern

    testbed.clear()
    testbed.subscribe("http://127.0.0.1:9/hook", event_types=["order.*"])
    made = Subscription.objects.bulk_create(
        (Subscription(name=f"benchmark {number}") for number in range(1, count)), batch_size=500
    )
    EventTypePattern.objects.bulk_create(
        (EventTypePattern(subscription=one, pattern="order.*") for one in made), batch_size=500
    )
    if connection.vendor == "postgresql":
        # As autovacuum does within a minute: without it an index is read from end to end.
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")


def models() -> dict[str, Any]:
    """Return the model that each kind saves."""
    from benchmarks.models import Note, Order, Parcel

    return {**dict.fromkeys(KINDS, Note), "heard": Order, "unheard": Parcel}


def beside(kind: str) -> None:
    """Do what belongs to a kind, in the transaction of its save."""
    from django.db import connection

    from django_webhooks.models import Event

    if kind == "select":
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            cursor.fetchone()
    elif kind == "insert":
        Event.objects.bulk_create([Event(type="order.created", body=BODY, fan_out=None)])


def measure(saves: int, *, is_update: bool) -> dict[str, float]:
    """Save in turns, and return what each kind adds to a plain save, in milliseconds."""
    rows = {kind: model.objects.create() for kind, model in models().items()}
    times = {kind: Times() for kind in KINDS}
    for number in range(saves + WARM_UP):
        for kind in random.sample(KINDS, len(KINDS)):
            row = rows[kind] if is_update else models()[kind]()
            row.number = number + 1
            save(row, times[kind], kind=kind)
    for one in times.values():
        for values in vars(one).values():
            del values[:WARM_UP]
    plain = times["plain"]
    found = {"publish_alone": statistics.median(times["publish"].publish)}
    for kind in KINDS[1:]:
        for name in ("whole", "before_commit", "thread"):
            own, base = getattr(times[kind], name), getattr(plain, name)
            found[f"{kind}_{name}"] = statistics.median(own) - statistics.median(base)
        p99 = testbed.percentile(times[kind].whole, 0.99)
        found[f"{kind}_p99"] = p99 - testbed.percentile(plain.whole, 0.99)
    return found


def save(row: Any, times: Times, *, kind: str) -> None:
    """Save one row as a view would, and let the other threads of the process come to rest."""
    from django.db import transaction

    from benchmarks.tasks import nothing
    from django_webhooks import wakeups

    began, spent = time.perf_counter(), time.thread_time()
    with transaction.atomic():
        row.save()
        beside(kind)
        saved = time.perf_counter()
    committed = time.perf_counter()
    if kind == "publish":
        nothing.delay()
        times.publish.append((time.perf_counter() - committed) * 1000)
    times.whole.append((time.perf_counter() - began) * 1000)
    times.thread.append((time.thread_time() - spent) * 1000)
    times.before_commit.append((saved - began) * 1000)
    wakeups._waker.flush()


def paced(kind: str, seconds: float) -> float:
    """Save a hundred times a second; return the milliseconds of processor time for each save."""
    from django.db import transaction

    from benchmarks.tasks import nothing
    from django_webhooks import wakeups

    model, count = models()[kind], int(seconds * PACE)
    spent, began = time.process_time(), time.perf_counter()
    for number in range(count):
        with transaction.atomic():
            model(number=number).save()
            beside(kind)
        if kind == "publish":
            nothing.delay()
        time.sleep(max(0.0, began + (number + 1) / PACE - time.perf_counter()))
    wakeups._waker.flush()
    return (time.process_time() - spent) * 1000 / count


def processor(seconds: int) -> dict[str, float]:
    """Return the milliseconds of processor time that each kind adds to a plain save."""
    found = dict.fromkeys(KINDS, 0.0)
    for _ in range(seconds):
        for kind in random.sample(KINDS, len(KINDS)):
            found[kind] += paced(kind, 1.0) / seconds
    return {f"{kind}_processor": found[kind] - found["plain"] for kind in KINDS[1:]}


def main() -> dict[str, Any]:
    """Run the benchmark and print its table or JSON."""
    options = testbed.options(__doc__, saves=300, runs=3, seconds=5, prepared=False)
    if options.prepared:
        os.environ["BENCHMARK_PREPARED"] = "1"
    testbed.prepare()
    from django.db import connection

    result: dict[str, Any] = {"database": connection.vendor, **vars(options)}
    rows = []
    try:
        for count in COUNTS:
            subscribe(count)
            runs = [_run(options) for _ in range(options.runs)]
            one = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
            result[str(count)] = {name: round(value, 3) for name, value in one.items()}
            rows += _rows(f"{count:,} subscriptions", one)
    finally:
        testbed.clear()
    heads = [
        connection.vendor,
        "created",
        "updated",
        "before commit",
        "thread",
        "p99 ms",
        "processor",
    ]
    testbed.tell(result, rows, heads=heads, as_json=options.json)
    if not options.json:
        print("Ratios to one Celery publish in the same run, but for p99; processor: at 100 saves "
              "a second, threads included.")  # fmt: skip
    return result


def _run(options: Any) -> dict[str, float]:
    found = dict(processor(options.seconds))
    for action in ("created", "updated"):
        times = measure(options.saves, is_update=action == "updated")
        found |= {f"{action}_{name}": value for name, value in times.items()}
    return found


def _rows(name: str, one: dict[str, float]) -> list[list[Any]]:
    rows = []
    for kind, told in (
        ("heard", name),
        ("unheard", "  a hook, nobody listens"),
        ("select", "  (SELECT 1)"),
        ("insert", "  (INSERT of an event)"),
    ):
        ratios = [
            one[f"{action}_{kind}_{what}"] / one[f"{action}_publish_alone"]
            for action, what in (
                ("created", "whole"),
                ("updated", "whole"),
                ("created", "before_commit"),
            )
        ]
        ratios.append(one[f"created_{kind}_thread"] / one["created_publish_thread"])
        share = one[f"{kind}_processor"] / one["publish_processor"]
        p99 = round(one[f"created_{kind}_p99"], 2)
        rows.append([told, *(f"{ratio:.2f}" for ratio in ratios), p99, f"{share:.2f}"])
    publish = one["created_publish_alone"]
    rows.append([f"  (a publish: {publish:.2f} ms)", "1", "1", "", "1", "", "1"])
    return rows


if __name__ == "__main__":
    main()

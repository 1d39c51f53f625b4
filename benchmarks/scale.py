"""What 10,000 subscriptions and 2,000,000 stored deliveries cost, beside an empty database.

    python -m benchmarks.scale [--deliveries 2000000] [--subscriptions 10000] [--rounds 60]
                               [--prune 100000] [--rebuild] [--json]

Makes three databases, which are kept and topped up from then on (about 4 GiB): one with two
subscriptions and no deliveries, one with all subscriptions and no deliveries, and one with all of
both. In turns, on each of them and in one process, it emits an event that one subscription hears,
by its owner, and by its type, the first and the next of it; sweeps while nothing is due; counts,
leases and records 100 due deliveries. Medians are compared; commits do not wait for the disk, which
would hide what differs. Then it prunes the oldest deliveries of the large one and takes the time of
each statement. The exit status is 1 where one takes more than 1.3 times as long as with the empty
database, or a statement of the prune more than 500 ms.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.scale_settings"

from benchmarks import testbed

TARGET_RATIO = 1.3
TARGET_MS = 500.0
#: Deliveries that are leased and recorded at once.
BATCH = 100
#: Rounds before times are kept: they fill caches.
WARM_UP = 5
#: What a sweep counts at the most.
SWEPT = 800


class Stopwatch:
    """The times of what is done in each database, in milliseconds."""

    def __init__(self) -> None:
        self.times: dict[str, dict[str, list[float]]] = {}

    def time(self, name: str, alias: str, call: Callable[[], Any]) -> Any:
        """Call, remember how long it took, and return what it returned."""
        began = time.perf_counter()
        returned = call()
        passed = (time.perf_counter() - began) * 1000
        self.times.setdefault(name, {}).setdefault(alias, []).append(passed)
        return returned

    def summary(self) -> dict[str, dict[str, dict[str, float]]]:
        """Return median and least of each, the first rounds left out."""
        return {
            name: {
                alias: {
                    "median": round(statistics.median(found[WARM_UP:]), 3),
                    "least": round(min(found[WARM_UP:]), 3),
                }
                for alias, found in by_alias.items()
            }
            for name, by_alias in self.times.items()
        }


def round_of(alias: str, watch: Stopwatch, number: int) -> None:
    """Do everything once in the chosen database."""
    from benchmarks import scale_data
    from django_webhooks import events, tasks
    from django_webhooks.models.owner import OwnerKey
    from django_webhooks.sending import claims, maintenance, recording
    from django_webhooks.sending import results as recorder
    from django_webhooks.sending.database import DatabaseClock
    from django_webhooks.sending.fan_out import fan_out
    from django_webhooks.sending.recording import hearing

    # Owners and types change, since what is asked again and again is in every cache.
    owner = OwnerKey(scale_data.OWNER_TYPE, str(scale_data.an_owner(alias, number)))
    shelf = f"stock.shelf{scale_data.a_shelf(alias, number)}"
    watch.time("sweep, nothing due", alias, tasks.sweep)
    by_owner = watch.time(
        "emit, heard by owner",
        alias,
        lambda: events.emit("order.paid", testbed.PAYLOAD, owner=owner),
    )
    # That somebody listens, which this process remembers, saves a statement.
    hearing.forget()
    first = watch.time(
        "emit, first of its type", alias, lambda: events.emit(shelf, testbed.PAYLOAD)
    )
    by_type = watch.time("emit, heard by type", alias, lambda: events.emit(shelf, testbed.PAYLOAD))
    draft = recording.Draft(event_type="order.paid", data=testbed.PAYLOAD, owner=owner)
    recording.record([draft] * (BATCH - 3), using=alias)
    watch.time(f"fan-out of {BATCH}", alias, lambda: fan_out.make_all(using=alias))
    if by_owner is None or first is None or by_type is None:
        raise SystemExit("An event was not heard.")
    now = DatabaseClock(using=alias)()
    due = watch.time(
        f"count of {BATCH} due",
        alias,
        lambda: maintenance.count_due(limit=SWEPT, using=alias, now=now),
    )
    lease = watch.time(
        f"lease of {BATCH}", alias, lambda: claims.take(now=now, limit=BATCH, using=alias)
    )
    results = [result_of(delivery, now=now) for delivery in lease.deliveries]
    recorded = watch.time(
        f"record of {BATCH}", alias, lambda: recorder.record(results, now=now, using=alias)
    )
    if not due == len(lease.deliveries) == len(recorded.entries) == BATCH:
        raise SystemExit(f"{due} were due, {len(recorded.entries)} recorded, not {BATCH}.")


def result_of(delivery: Any, *, now: Any) -> Any:
    """Return what an attempt brings whose receiver answers 204."""
    from django_webhooks.policies import outcome
    from django_webhooks.sending.attempts import Job, Result
    from django_webhooks.sending.claims import routing
    from django_webhooks.sending.http import Answer

    subscription = delivery.subscription
    job = Job(
        delivery=delivery,
        subscription=subscription,
        endpoint=routing.of(subscription, delivery).endpoint,
        policy=subscription.retry_policy,
    )
    return Result(
        job=job,
        started_at=now,
        duration=0.01,
        response=Answer(status=204, headers={}, body=b""),
        outcome=outcome.of_answer(204, {}, now=now),
    )


def prune(count: int, alias: str) -> dict[str, Any]:
    """Prune so many of the oldest deliveries, and return how long its statements took."""
    from django.db import connections

    from django_webhooks.conf import settings
    from django_webhooks.models import Delivery
    from django_webhooks.sending import maintenance

    finished = Delivery.objects.order_by("finished_at").values_list("finished_at", flat=True)
    # All statuses are kept for as long: see the settings.
    days = settings.WEBHOOKS_RETENTION_DAYS["succeeded"]
    now = finished.filter(finished_at__isnull=False)[count] + timedelta(days=days)
    statements: list[tuple[float, str]] = []
    with connections[alias].execute_wrapper(timing(statements)):
        began = time.monotonic()
        removed = maintenance.prune(now=now, max_seconds=600)
        seconds = time.monotonic() - began
    statements.sort(reverse=True)
    return {
        "removed": removed,
        "per_second": round(removed / seconds),
        "statements": len(statements),
        "longest_ms": round(statements[0][0], 1),
        "longest": statements[0][1][:120],
        "median_ms": round(statistics.median(ms for ms, _ in statements), 2),
    }


def timing(statements: list[tuple[float, str]]) -> Callable[..., Any]:
    """Return a wrapper that keeps the milliseconds of each statement."""

    def wrapper(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        began = time.perf_counter()
        try:
            return execute(sql, params, many, context)
        finally:
            statements.append(((time.perf_counter() - began) * 1000, sql))

    return wrapper


def databases(options: Any) -> tuple[str, ...]:
    """Make the databases and return their aliases."""
    from benchmarks import scale_data, scale_settings

    few, many = scale_data.FEW, options.subscriptions
    sizes = {"default": (few, 0), "listeners": (many, 0), "full": (many, options.deliveries)}
    for alias, (subscriptions, deliveries) in sizes.items():
        scale_data.make(
            alias,
            subscriptions=subscriptions,
            deliveries=deliveries,
            rebuild=options.rebuild,
            like="listeners" if alias == "full" else "",
        )
    return scale_settings.ALIASES


def main() -> dict[str, Any]:
    """Run the benchmark and print its table or JSON."""
    options = testbed.options(
        __doc__,
        deliveries=2_000_000,
        subscriptions=10_000,
        rounds=60,
        prune=100_000,
        rebuild=False,
    )
    import django

    from benchmarks.project import app

    app.set_default()
    django.setup()
    from benchmarks import scale_data

    watch = Stopwatch()
    aliases = databases(options)
    size = scale_data.size("full")
    for number in range(options.rounds + WARM_UP):
        # Each is the first in its turn.
        turn = number % len(aliases)
        for alias in aliases[turn:] + aliases[:turn]:
            with scale_data.using(alias):
                round_of(alias, watch, number)
    with scale_data.using("full"):
        pruned = prune(options.prune, "full")
    summary = watch.summary()
    ratios = {
        name: found["full"]["median"] / found["default"]["median"]
        for name, found in summary.items()
    }
    # Compared as they are: 1.304 is not 1.3.
    missed = [name for name, ratio in ratios.items() if ratio > TARGET_RATIO]
    if pruned["longest_ms"] > TARGET_MS:
        missed.append("prune")
    shown = {name: round(ratio, 2) for name, ratio in ratios.items()}
    result = {"size": size, "ratios": shown, "ms": summary, "prune": pruned, "missed": missed}
    report(result, as_json=options.json)
    sys.exit(1 if missed else 0)


def report(result: dict[str, Any], *, as_json: bool) -> None:
    """Print the table and the lines below it, or JSON."""
    rows = [
        [
            name,
            result["ratios"][name],
            *(
                f"{found[alias]['median']:.2f} ({found[alias]['least']:.2f})"
                for alias in ("default", "listeners", "full")
            ),
        ]
        for name, found in result["ms"].items()
    ]
    heads = ["", "full / empty", "empty, ms (least)", "subscriptions only", "full"]
    testbed.tell(result, rows, heads=heads, as_json=as_json)
    if as_json:
        return
    size, pruned = result["size"], result["prune"]
    print(
        f"{size['subscriptions']:,} subscriptions, {size['deliveries']:,} deliveries, "
        f"{size['attempts']:,} attempts, {size['probes']:,} probes, {size['mib']:,} MiB"
    )
    print(
        f"prune: {pruned['removed']:,} deliveries, {pruned['per_second']:,} a second, "
        f"{pruned['statements']:,} statements, median {pruned['median_ms']} ms, longest "
        f"{pruned['longest_ms']} ms: {pruned['longest']}"
    )
    print(f"missed: {', '.join(result['missed']) or 'nothing'}")


if __name__ == "__main__":
    main()

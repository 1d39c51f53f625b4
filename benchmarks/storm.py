"""An endpoint fails for a while with much waiting for it, and recovers.

    python -m benchmarks.storm [--backlog 20000] [--outage 30] [--before 15] [--rate 100]
                               [--concurrency 4] [--hang] [--json]
    python -m benchmarks.storm --partial [--deliveries 3000] [--every 4] [--status 503] [--json]

Ten subscriptions hear a steady traffic. One receiver then answers 500 (or with ``--hang`` never)
for 30 s, while a backlog is recorded for it and the traffic goes on. Tells how long it takes after
its recovery until all has arrived, how many attempts failed, how many requests were under way at
the receiver in each second, and the time from commit to arrival at the other nine before, during
the outage and during the recovery, all in one run.

``--partial`` measures what a receiver costs that refuses every fourth request and is healthy: see
:mod:`benchmarks.partial`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

from benchmarks import partial, testbed, traffic

RECEIVERS = 10
LIMIT_SECONDS = 400
#: The receiver takes as long for an answer, so that requests under way can be counted.
WELL = "slow 0.02"


def record_backlog(count: int) -> set[str]:
    """Record events for the last receiver; return their message ids."""
    from django_webhooks import wakeups
    from django_webhooks.sending import recording

    draft = recording.Draft(event_type=traffic.event_type(RECEIVERS - 1), data=testbed.PAYLOAD)
    keys = set()
    for _ in range(count // 500):
        recorded = recording.record([draft] * 500, using="default")
        keys |= {event.message_id for event in recorded if event is not None}
        wakeups.wake()
    return keys


def measure(options: Any) -> dict[str, Any]:
    """Let the storm pass, and return what was seen of it."""
    testbed.clear()
    going = traffic.Traffic(rate=options.rate, receivers=RECEIVERS)
    with (
        testbed.worker(concurrency=options.concurrency),
        testbed.beat(),
        testbed.logging_receiver(ports=RECEIVERS - 1) as good,
        testbed.logging_receiver(manner=WELL) as bad,
    ):
        subscribed = traffic.subscribe([*good.urls, *bad.urls])
        with going.under_way():
            time.sleep(options.before)
            failed_at = time.monotonic()
            bad.answer("hang" if options.hang else "500")
            owed = record_backlog(options.backlog)
            time.sleep(max(0.0, failed_at + options.outage - time.monotonic()))
            bad.answer(WELL)
            recovered_at = time.monotonic()
            owed |= {
                key
                for key, one in going.sent.copy().items()
                if one.who == RECEIVERS - 1 and one.at >= failed_at
            }
            left = traffic.wait_for(lambda: owed - _since(bad, recovered_at), LIMIT_SECONDS)
            ended_at = time.monotonic()
        if left:
            raise SystemExit(f"{left} deliveries are left {LIMIT_SECONDS} s after the recovery.")
        nine = {key: one for key, one in going.sent.items() if one.who != RECEIVERS - 1}
        if traffic.wait_for(lambda: nine.keys() - good.first_moments().keys(), 60):
            raise SystemExit("Events of healthy endpoints have not arrived.")
        phases = {"before": 0.0, "outage": failed_at, "recovery": recovered_at, "after": ended_at}
        return {
            "deliveries": len(owed),
            **_drain(bad.arrivals(), recovered_at),
            **_attempts(subscribed[-1]),
            "others_ms": _by_phase(nine, good.first_moments(), phases),
        }


def _since(receiver: testbed.Receiving, moment: float) -> set[str]:
    return {one.key for one in receiver.arrivals() if one.at >= moment}


def _drain(arrivals: Sequence[testbed.Arrival], recovered_at: float) -> dict[str, Any]:
    """Return when the drain began and ended, and what was under way in each second of it."""
    after = [one for one in arrivals if one.at >= recovered_at]
    began, ended = after[0].at, after[-1].at
    under_way: dict[int, int] = {}
    arrived: dict[int, int] = {}
    for one in after:
        second = int(one.at - began)
        under_way[second] = max(under_way.get(second, 0), one.open)
        arrived[second] = arrived.get(second, 0) + 1
    seconds = range(int(ended - began) + 1)
    return {
        "seconds_to_first": round(began - recovered_at, 1),
        "seconds_to_all": round(ended - recovered_at, 1),
        "under_way_by_second": [under_way.get(one, 0) for one in seconds],
        "arrived_by_second": [arrived.get(one, 0) for one in seconds],
    }


def _attempts(subscription: object) -> dict[str, int]:
    from django_webhooks.models import Attempt, Delivery

    rows = Attempt.objects.filter(delivery__subscription_id=subscription)
    return {
        "attempts": rows.count(),
        "attempts_failed": rows.exclude(outcome="succeeded").count(),
        "given_up": Delivery.objects.filter(status=Delivery.Status.GIVEN_UP).count(),
    }


def _by_phase(
    sent: dict[str, traffic.Sent], arrived: dict[str, float], phases: dict[str, float]
) -> dict[str, dict[str, float]]:
    names, found = list(phases), {}
    for name, until in zip(names, [*names[1:], None], strict=True):
        ends = phases[until] if until else float("inf")
        own = {key: one for key, one in sent.items() if phases[name] <= one.at < ends}
        values = traffic.delays(own, arrived)
        if values:
            found[name] = {
                "p50": round(testbed.percentile(values, 0.5), 1),
                "p99": round(testbed.percentile(values, 0.99), 1),
            }
    return found


def main() -> dict[str, Any]:
    """Run the benchmark and print its table or JSON."""
    if "--partial" in sys.argv:
        sys.argv.remove("--partial")
        return partial.main()
    hang = "--hang" in sys.argv
    sys.argv = [one for one in sys.argv if one != "--hang"]
    options = testbed.options(__doc__, backlog=20000, outage=30, before=15, rate=100, concurrency=4)
    options.hang = hang
    testbed.prepare()
    result = {"fails_by": "hanging" if hang else "500", **measure(options)}
    testbed.clear()
    others = result["others_ms"]
    before = others["before"]["p99"]
    rows = [
        [f"the other nine, {phase}", round(one["p99"] / before, 2), one["p99"], one["p50"]]
        for phase, one in others.items()
        if phase != "after"
    ]
    heads = ["milliseconds from commit to arrival", "ratio p99", "p99", "p50"]
    testbed.tell(result, rows, heads=heads, as_json=options.json)
    if not options.json:
        print(
            f"{result['deliveries']} deliveries for the one that failed: the first arrived "
            f"{result['seconds_to_first']} s after its recovery, the last "
            f"{result['seconds_to_all']} s; {result['attempts_failed']} of "
            f"{result['attempts']} attempts failed, {result['given_up']} were given up"
        )
        print("under way in each second of the recovery:", *result["under_way_by_second"][:60])
        print("arrived in each second of the recovery:", *result["arrived_by_second"][:60])
    return result


if __name__ == "__main__":
    main()

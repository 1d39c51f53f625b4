"""What it costs to be watched: microseconds that an attempt takes longer.

    python -m benchmarks.watching [--runs 7]

Metrics: the signals of an attempt that arrives, with and without our receivers; set
``PROMETHEUS_MULTIPROC_DIR`` to an empty folder for the cost between processes. Traces: two spans
of an attempt, without a provider of spans and with the SDK's. Needs no server.
"""

from __future__ import annotations

import argparse
import logging
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.settings")

TIMES = 10_000


def microseconds(call: Callable[[], Any], *, runs: int) -> float:
    """Return the processor time of a call in the quickest of some runs."""
    found = []
    for _ in range(runs):
        began = time.process_time()
        for _ in range(TIMES):
            call()
        found.append((time.process_time() - began) / TIMES * 1e6)
    return min(found)


def metrics(*, runs: int) -> float:
    """Return what counting an attempt that arrives costs."""
    from django_webhooks import signals
    from django_webhooks.metrics import counting
    from django_webhooks.models import Attempt, Delivery

    now = datetime.now(UTC)
    attempt = Attempt(number=1, outcome="succeeded", duration_ms=40)
    delivery = Delivery(created_at=now, finished_at=now + timedelta(seconds=1))

    def announce() -> None:
        signals.attempt_finished.send_robust(sender=Attempt, attempt=attempt, delivery=delivery)
        signals.delivery_succeeded.send_robust(sender=Delivery, attempt=attempt, delivery=delivery)

    without = microseconds(announce, runs=runs)
    counting.connect()
    return microseconds(announce, runs=runs) - without


def traces(*, runs: int) -> tuple[float, float]:
    """Return what tracing an attempt costs without a provider, and with the SDK's."""
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider

    from django_webhooks.models import Delivery, Endpoint, Event, Subscription
    from django_webhooks.sending.wire import tracing

    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    subscription = Subscription()
    delivery = Delivery(event=Event(type="order.paid", trace_parent=parent))
    endpoint = Endpoint(url="https://receiver.example/hook")
    job: Any = SimpleNamespace(
        delivery=delivery, subscription=subscription, endpoint=endpoint, number=1
    )
    verdict = SimpleNamespace(verdict=SimpleNamespace(value="succeeded"), reason="")
    result: Any = SimpleNamespace(response=SimpleNamespace(status=204), outcome=verdict)
    traced = tracing.attempted(lambda job, *, now: result)
    now = datetime.now(UTC)
    idle = microseconds(lambda: traced(job, now=now), runs=runs)
    trace.set_tracer_provider(TracerProvider())
    return idle, microseconds(lambda: traced(job, now=now), runs=runs)


def main() -> None:
    """Measure and print."""
    import django

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    runs = parser.parse_args().runs
    django.setup()
    logging.disable(logging.CRITICAL)
    print(f"metrics                 {metrics(runs=runs):6.1f} µs")
    idle, busy = traces(runs=runs)
    print(f"traces, no provider     {idle:6.1f} µs")
    print(f"traces, the SDK's       {busy:6.1f} µs")


if __name__ == "__main__":
    main()

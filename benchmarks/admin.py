"""How long the admin's pages take at the server, with a million attempts and with next to none.

    python -m benchmarks.admin [--attempts 1000000] [--keep] [--json]

Seeds a database (see :mod:`benchmarks.seed`) with a few rows and then with many, asks each page for
its answer as the server gives it, and prints the median of nine answers, how many queries each
takes, and the ratio of both databases. The exit status is 1 where a page takes longer than 300 ms,
or more queries than with few rows. ``--keep`` uses the large database of the run before.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.admin_settings")

FEW = 2_000
LIMIT_MS = 300
ANSWERS = 9


def addresses() -> dict[str, str]:
    """Return the pages that are asked, by what they show."""
    from django_webhooks.models import Attempt, Delivery, Subscription

    one = Subscription.objects.order_by("name")[7]
    delivery = Delivery.objects.filter(subscription=one, status="given_up").first()
    delivery = delivery or Delivery.objects.filter(subscription=one)[0]
    attempt = Attempt.objects.filter(delivery=delivery)[0]
    last = min(200, Delivery.objects.count() // 50)
    lists = {
        "deliveries": "delivery/",
        "deliveries, last page": f"delivery/?p={last}",
        "deliveries, given up": "delivery/?status=given_up",
        "deliveries, waiting": "delivery/?status=waiting",
        "deliveries, cancelled (none)": "delivery/?status=cancelled",
        "deliveries of a type": "delivery/?event_type=order.paid",
        "deliveries of a subscription": f"delivery/?subscription={one.pk}",
        "deliveries to an endpoint": f"delivery/?endpoint={attempt.endpoint_id}",
        "deliveries to a host": f"delivery/?host={attempt.endpoint_host}",
        "deliveries to no such host": "delivery/?host=nowhere.example",
        "deliveries, status code 503": "delivery/?status_code=503",
        "deliveries, status code 404 (none)": "delivery/?status_code=404",
        "deliveries, reason http_503": "delivery/?reason=http_503",
        "deliveries of a day": "delivery/?recent=24h",
        "deliveries, searched by message id": f"delivery/?q={delivery.message_id}",
        "deliveries, searched by key": f"delivery/?q={delivery.event.idempotency_key}",
        "deliveries, searched by host": f"delivery/?q={attempt.endpoint_host}",
        "deliveries, searched by name": "delivery/?q=Subscription+007",
        "deliveries, searched in vain": "delivery/?q=nothing+of+the+kind",
        "attempts": "attempt/",
        "attempts, failed": "attempt/?outcome__exact=retry",
        "attempts to a host": f"attempt/?q={attempt.endpoint_host}",
        "events": "event/",
        "events of a type": "event/?event_type=order.paid",
        "endpoints": "endpoint/",
        "subscriptions": "subscription/",
        "switches": "switch/",
        "bulk replays": "bulkreplay/",
        "a delivery": f"delivery/{delivery.pk}/change/",
        "an attempt": f"attempt/{attempt.pk}/change/",
        "a subscription": f"subscription/{one.pk}/change/",
        "an endpoint": f"endpoint/{attempt.endpoint_id}/change/",
    }
    overviews = {
        f"overview, {name}": f"overviewpage/?range={name}" for name in ("1h", "24h", "7d", "30d")
    }
    overviews["overview of a subscription"] = f"overviewpage/?range=30d&subscription={one.pk}"
    return overviews | lists


def measure() -> dict[str, tuple[float, int]]:
    """Return milliseconds and queries of each page."""
    import django

    django.setup()
    from django.contrib.auth.models import User
    from django.db import connection
    from django.test import Client
    from django.test.utils import CaptureQueriesContext

    from django_webhooks import catalog

    catalog.declare("order.paid")
    user = User.objects.filter(username="ada").first()
    client = Client()
    client.force_login(user or User.objects.create_superuser("ada"))
    measured = {}
    for name, path in addresses().items():
        address = f"/admin/django_webhooks/{path}"
        with CaptureQueriesContext(connection) as queries:
            answer = client.get(address)
            asked = len(queries)
        assert answer.status_code == 200, (name, answer.status_code)
        times = []
        for _ in range(ANSWERS):
            began = time.perf_counter()
            client.get(address)
            times.append((time.perf_counter() - began) * 1000)
        measured[name] = (statistics.median(times), asked)
    return measured


def run(attempts: int, *, seed: bool = True) -> dict[str, tuple[float, int]]:
    """Seed and measure in processes of their own."""
    if seed:
        subprocess.run(
            [sys.executable, "-m", "benchmarks.seed", "--attempts", str(attempts)], check=True
        )
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "benchmarks.admin", "--measure"],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return {name: tuple(found) for name, found in json.loads(ran.stdout).items()}


def main() -> None:
    """Print both, and whether the limits hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--attempts", type=int, default=1_000_000)
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure()))
        return
    few = {} if options.keep else run(FEW)
    many = run(options.attempts, seed=not options.keep)
    broken = report(few or many, many, as_json=options.json)
    sys.exit(1 if broken else 0)


def report(few: Any, many: Any, *, as_json: bool) -> list[str]:
    """Print a line for each page, and return those that break a limit."""
    broken = [
        name for name, (ms, queries) in many.items() if ms > LIMIT_MS or queries > few[name][1] + 1
    ]
    if as_json:
        print(json.dumps({"few": few, "many": many, "broken": broken}))
        return broken
    print(f"{'page':38}{'few':>9}{'many':>9}{'ratio':>7}{'queries':>12}")
    for name, (ms, queries) in many.items():
        before, asked = few[name]
        mark = "  <- breaks a limit" if name in broken else ""
        print(
            f"{name:38}{before:6.0f} ms{ms:6.0f} ms{ms / before:7.1f}{asked:6} / {queries:3}{mark}"
        )
    print(f"slowest: {max(ms for ms, _ in many.values()):.0f} ms of {LIMIT_MS}")
    return broken


if __name__ == "__main__":
    main()

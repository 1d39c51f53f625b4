"""Deliveries per second: a real worker beside a bare ``requests.Session`` loop, in one run.

    python -m benchmarks.drain [--deliveries 5000] [--runs 3] [--json]

Queues deliveries of 1 KiB, starts a Celery worker (prefork 2) and sweeps once; the worker leases,
signs, sends and records all of them. The same number of posts is then sent by one process in a loop
with ``requests.Session().post``. Needs PostgreSQL and Redis on this machine.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.settings")

PAYLOAD = {"id": 1, "text": "x" * 940}
LIMIT_SECONDS = 120


@contextmanager
def receiver() -> Iterator[str]:
    """Run a receiver of its own and yield its URL."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.receiver"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/hook"
    finally:
        process.stdin.close()
        process.wait(10)


@contextmanager
def worker(*, concurrency: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run a Celery worker, ready, and stop it."""
    command = [sys.executable, "-m", "celery", "-A", "benchmarks.project", "worker"]
    command += ["-c", str(concurrency), "-Q", "webhooks", "-l", "error", "--without-mingle"]
    process = subprocess.Popen([*command, "--without-gossip"], stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def drain(deliveries: int, url: str, *, concurrency: int) -> dict[str, float]:
    """Queue deliveries, let a worker drain them, and return its speed."""
    from django.db import connection

    from django_webhooks import events, tasks
    from django_webhooks.models import Delivery, Endpoint, Subscription
    from django_webhooks.sending import outbox

    with connection.cursor() as cursor:
        cursor.execute(
            "TRUNCATE django_webhooks_attempt, django_webhooks_delivery, django_webhooks_event, "
            "django_webhooks_endpoint, django_webhooks_eventtypepattern, "
            "django_webhooks_subscription CASCADE"
        )
    tasks.deliver.app.control.purge()
    subscription = Subscription.objects.create(name="benchmark", event_types=["*"])
    Endpoint.objects.create(subscription=subscription, url=url)
    drafts = [events.Draft(event_type="order.paid", data=PAYLOAD)] * 500
    for _ in range(deliveries // len(drafts)):
        outbox.record(drafts, using="default")
    total = Delivery.objects.count()
    with worker(concurrency=concurrency):
        _wait_for_worker()
        began = time.monotonic()
        tasks.sweep()
        while left := Delivery.objects.waiting().count():
            if time.monotonic() - began > LIMIT_SECONDS:
                raise SystemExit(f"{left} deliveries are left after {LIMIT_SECONDS} s.")
            time.sleep(0.05)
        seconds = time.monotonic() - began
    if Delivery.objects.succeeded().count() != total:
        raise SystemExit("Not every delivery succeeded.")
    return {"deliveries": total, "seconds": seconds, "per_second": total / seconds}


def loop(posts: int, url: str) -> dict[str, float]:
    """Post in a bare loop and return its speed."""
    import requests

    body = json.dumps({"type": "order.paid", "timestamp": "", "data": PAYLOAD})
    session = requests.Session()
    session.post(url, data=body)
    began = time.monotonic()
    for _ in range(posts):
        session.post(url, data=body)
    seconds = time.monotonic() - began
    return {"posts": posts, "seconds": seconds, "per_second": posts / seconds}


def _wait_for_worker() -> None:
    from benchmarks.project import app

    ends = time.monotonic() + 30
    while not app.control.ping(timeout=0.5):
        if time.monotonic() > ends:
            raise SystemExit("The worker did not start.")


def prepare() -> None:
    """Create the benchmark's own database where it is missing, and migrate it."""
    import django
    from django.conf import settings
    from django.core.management import call_command

    from benchmarks.project import app

    app.set_default()
    django.setup()
    import psycopg

    wanted = settings.DATABASES["default"]
    with psycopg.connect(
        host=wanted["HOST"],
        port=wanted["PORT"] or 5432,
        user=wanted["USER"],
        password=wanted["PASSWORD"],
        dbname="postgres",
        autocommit=True,
    ) as server:
        if not server.execute(
            "SELECT 1 FROM pg_database WHERE datname = %s", [wanted["NAME"]]
        ).fetchone():
            server.execute(f'CREATE DATABASE "{wanted["NAME"]}"')
    call_command("migrate", verbosity=0)


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Run the benchmark and print its table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--deliveries", type=int, default=5000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--concurrency", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    prepare()
    drained, looped = [], []
    with receiver() as url:
        for _ in range(options.runs):
            looped.append(loop(min(options.deliveries, 3000), url)["per_second"])
            drained.append(
                drain(options.deliveries, url, concurrency=options.concurrency)["per_second"]
            )
    result = {
        "deliveries": options.deliveries,
        "runs": options.runs,
        "drain_per_second": round(statistics.median(drained)),
        "loop_per_second": round(statistics.median(looped)),
        "ratio": round(statistics.median(drained) / statistics.median(looped), 2),
    }
    if options.json:
        print(json.dumps(result))
    else:
        print(f"worker, prefork {options.concurrency}   {result['drain_per_second']:>6} a second")
        print(f"requests.Session loop {result['loop_per_second']:>6} a second")
        print(f"ratio                 {result['ratio']:>6}")
    return result


if __name__ == "__main__":
    main()

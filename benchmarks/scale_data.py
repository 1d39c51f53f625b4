"""The databases of the benchmark of scale: made once, kept, and topped up before each run."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from django.core.management import call_command
from django.db import connections, transaction

from benchmarks import scale_settings, seed, testbed
from django_webhooks import times

#: Every second subscription belongs to an owner, and the others listen to an event type of their
#: own.
OWNER_TYPE = "shop.shop"
#: Subscriptions of the empty database: one of each of the two kinds.
FEW = 2
#: Deliveries that one statement makes.
CHUNK = 200_000
#: Days over which the stored deliveries are spread, and the age of the subscriptions.
SPAN = timedelta(days=45)
#: One delivery in ten needed three attempts.
SHAPE = seed.Shape(
    tries="CASE WHEN n %% 10 = 0 THEN 3 ELSE 1 END",
    retries="CASE WHEN n %% 10 = 0 THEN 2 ELSE 0 END",
)
#: Probes of each endpoint: those that are kept, and those of an hour.
PROBES = 50 + 60
PROBES_ROWS = f"""
INSERT INTO django_webhooks_probe
    (id, endpoint_id, kind, started_at, duration_ms, succeeded, reason, detail)
SELECT {seed.ID.format(at="now()", n="(e.id::text || n)", salt="p")}, e.id, 'connect', now(), 10,
       true, '', ''
FROM generate_series(1, %(count)s) AS n, django_webhooks_endpoint e
"""


@contextmanager
def using(alias: str) -> Iterator[None]:
    """Let everything use one database meanwhile."""
    before, scale_settings.CHOSEN[0] = scale_settings.CHOSEN[0], alias
    try:
        yield
    finally:
        scale_settings.CHOSEN[0] = before


def make(alias: str, *, subscriptions: int, deliveries: int, rebuild: bool, like: str = "") -> None:
    """Make a database where it is missing or of another size, and what it lacks otherwise.

    A new one begins with the rows of the one that it is ``like``.
    """
    from django_webhooks.models import Delivery

    with using(alias):
        _create(alias, rebuild=rebuild, like=like)
        is_too_large = deliveries and _count(alias, "delivery") > deliveries * 1.2
        is_other = _count(alias, "subscription") not in (0, subscriptions)
        if is_other or is_too_large or _schema(alias) != testbed.first_migration():
            _create(alias, rebuild=True, like=like)
        if not _count(alias, "subscription"):
            _subscribe(subscriptions, alias)
        if deliveries:
            _fill(deliveries, alias)
            _probe(alias)
        else:
            _empty(alias)
        # What a run that was broken off left.
        Delivery.objects.waiting().cancel()
        with connections[alias].cursor() as cursor:
            cursor.execute("VACUUM ANALYZE")
            cursor.execute("CHECKPOINT")


def an_owner(alias: str, number: int) -> int:
    """Return the number of a subscription that has an owner, another one each time."""
    return number * 7919 * 2 % _count(alias, "subscription")


def a_shelf(alias: str, number: int) -> int:
    """Return the number of a subscription that listens to a type of its own."""
    return an_owner(alias, number) + 1


def size(alias: str) -> dict[str, int]:
    """Return how many rows there are, and how much a database takes."""
    tables = {"subscriptions": "subscription", "deliveries": "delivery", "attempts": "attempt"}
    tables["probes"] = "probe"
    counts = {name: _count(alias, table) for name, table in tables.items()}
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT pg_database_size(current_database())")
        return counts | {"mib": cursor.fetchone()[0] // 2**20}


def _create(alias: str, *, rebuild: bool, like: str) -> None:
    name = connections[alias].settings_dict["NAME"]
    template = connections[like].settings_dict["NAME"] if like else "template1"
    for one in connections.all():
        one.close()
    with testbed.server() as server:
        if rebuild:
            server.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        known = server.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone()
        if not known:
            server.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
            testbed.sign(server, name)
    call_command("migrate", database=alias, verbosity=0)


def _schema(alias: str) -> str:
    """Return the digest of the migration that a database was made by."""
    with connections[alias].cursor() as cursor:
        cursor.execute(
            "SELECT shobj_description(oid, 'pg_database') FROM pg_database "
            "WHERE datname = current_database()"
        )
        return str(cursor.fetchone()[0])


def _subscribe(count: int, alias: str) -> None:
    """Make subscriptions, half of them with owners, as if that were long ago."""
    from django_webhooks.models import Endpoint, EndpointHealth, Subscription

    for first in range(0, count, 100):
        with transaction.atomic(using=alias):
            for number in range(first, min(count, first + 100)):
                is_owned = number % 2 == 0
                made = Subscription(
                    name=f"Subscription {number:05}",
                    event_types=["order.*"] if is_owned else [f"stock.shelf{number}"],
                    owner_type=OWNER_TYPE if is_owned else "",
                    owner_id=str(number) if is_owned else "",
                )
                made.save()
                url = f"https://host-{number}.example/hook"
                Endpoint.objects.create(subscription=made, url=url)
    long_ago = times.now() - SPAN
    Subscription.objects.update(sending_changed_at=long_ago)
    EndpointHealth.objects.update(fully_released_at=long_ago, succeeded_at=long_ago)


def _empty(alias: str) -> None:
    with connections[alias].cursor() as cursor:
        cursor.execute("TRUNCATE django_webhooks_event CASCADE")


def _fill(deliveries: int, alias: str) -> None:
    """Make the deliveries that are missing, from the latest there is until now."""
    missing = deliveries - _count(alias, "delivery")
    if missing <= 0:
        return
    now = times.now()
    since = _latest(alias) or now - SPAN
    step = (now - since) / -(-missing // CHUNK)
    body = json.dumps({"type": "order.paid", "timestamp": "", "data": testbed.PAYLOAD}).encode()
    while missing > 0:
        began = time.monotonic()
        with connections[alias].cursor() as cursor:
            seed.deliveries(
                cursor, min(CHUNK, missing), since=since, until=since + step, body=body, shape=SHAPE
            )
        missing, since = missing - CHUNK, since + step
        testbed.note(f"{max(0, missing):,} deliveries to make, {time.monotonic() - began:.0f} s")


def _probe(alias: str) -> None:
    """Make the probes that are missing."""
    count = PROBES - _count(alias, "probe") // max(1, _count(alias, "endpoint"))
    with connections[alias].cursor() as cursor:
        cursor.execute(PROBES_ROWS, {"count": count})


def _latest(alias: str) -> datetime | None:
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT created_at FROM django_webhooks_delivery ORDER BY id DESC LIMIT 1")
        row: Any = cursor.fetchone()
    return row[0] if row else None


def _count(alias: str, name: str) -> int:
    with connections[alias].cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM django_webhooks_{name}")
        return int(cursor.fetchone()[0])

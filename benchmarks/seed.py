"""Fill a database with a month of webhooks: ``python -m benchmarks.seed --attempts 1000000``.

It makes the database of the benchmark of the admin anew, on PostgreSQL: 200 subscriptions with two
endpoints each, and three deliveries for ten attempts. Rows are made by the server itself.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction

from django_webhooks import times

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.admin_settings")

SUBSCRIPTIONS = 200

#: A time-ordered id (RFC 9562 section 5.7) for the moment ``at`` and the number ``n``.
ID = """(lpad(to_hex((extract(epoch from {at}) * 1000)::bigint), 12, '0') || '7'
    || substr(md5({n}::text || '{salt}'), 1, 3) || 'a' || substr(md5({n}::text || '{salt}'), 4, 15)
    )::uuid"""

#: Events, deliveries and attempts, spread evenly over a time and over all subscriptions.
ROWS = """
CREATE TEMPORARY TABLE plan ON COMMIT DROP AS
SELECT n, %(since)s::timestamptz
          + (%(until)s::timestamptz - %(since)s::timestamptz) * (n::float / %(count)s) AS at,
       (n::bigint * 7919 %% (SELECT count(*) FROM django_webhooks_subscription)) AS who,
       n %% 29 = 0 AS failed, {retries} AS retries, {tries} AS tries,
       n > %(count)s - %(waiting)s AS waits
FROM generate_series(1, %(count)s) AS n;

CREATE TEMPORARY TABLE who ON COMMIT DROP AS
SELECT s.id AS subscription_id, row_number() OVER (ORDER BY s.name) - 1 AS who,
       (SELECT e.id FROM django_webhooks_endpoint e
        WHERE e.subscription_id = s.id AND e.position = 0) AS endpoint_id
FROM django_webhooks_subscription s;

ANALYZE plan, who;

INSERT INTO django_webhooks_event
    (id, type, body, idempotency_key, owner_type, owner_id, hops, created_at,
     ordering_key, trace_parent)
SELECT {event}, 'order.paid', %(body)s, 'key-' || n, '', '', 0, at, '', ''
FROM plan;

INSERT INTO django_webhooks_delivery
    (id, event_id, subscription_id, replay, status, due_at, attempts_made, reason, created_at,
     finished_at, has_new_message_id, priority, partition, cancelled_by)
SELECT {delivery}, {event}, subscription_id, 0,
       CASE WHEN waits THEN 'waiting' WHEN failed THEN 'given_up' ELSE 'succeeded' END,
       CASE WHEN waits THEN at END,
       1 + retries, CASE WHEN failed THEN 'http_503' ELSE '' END, at,
       CASE WHEN NOT waits THEN at + interval '1 second' * (random() * 5) END,
       false, 1, '', ''
FROM plan JOIN who USING (who);

INSERT INTO django_webhooks_attempt
    (id, delivery_id, endpoint_id, endpoint_host, number, started_at, duration_ms, outcome, reason,
     status_code, detail, response_headers, response_body, is_late)
SELECT {attempt}, {delivery}, endpoint_id, 'host-' || who || '.example',
       number, at + interval '1 second' * number, (20 + random() * 400)::int,
       CASE WHEN failed OR number <= retries THEN 'retry' ELSE 'succeeded' END,
       CASE WHEN failed OR number <= retries THEN 'http_503' ELSE '' END,
       CASE WHEN failed OR number <= retries THEN 503 ELSE 204 END, '', '{{}}', 'ok', false
FROM plan JOIN who USING (who), generate_series(1, tries) AS number;
"""

SMALL_BODY = b'{"type":"order.paid","timestamp":"","data":{"id":1}}'


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How many attempts the ``n``-th delivery has, and how many of the first of them failed."""

    tries: str = "CASE WHEN n %% 3 = 2 THEN 5 ELSE 3 END - (n %% 3 = 0)::int"
    retries: str = "n %% 3"

    @property
    def rows(self) -> str:
        """The statements that make the rows."""
        return ROWS.format(
            tries=self.tries,
            retries=self.retries,
            event=ID.format(at="at", n="n", salt="e"),
            delivery=ID.format(at="at", n="n", salt="d"),
            attempt=ID.format(
                at="at + interval '1 second' * number", n="(n::bigint * 10 + number)", salt="a"
            ),
        )


def deliveries(
    cursor: Any,
    count: int,
    *,
    since: datetime,
    until: datetime,
    waiting: int = 0,
    body: bytes = SMALL_BODY,
    shape: Shape | None = None,
) -> None:
    """Make so many deliveries between two moments, the last ``waiting`` of them not over."""
    shape = shape or Shape()
    values = {"count": count, "since": since, "until": until, "waiting": waiting, "body": body}
    with transaction.atomic(using=cursor.db.alias):
        cursor.execute(shape.rows, values)


def database() -> None:
    """Make the database anew, and its tables."""
    from django.conf import settings
    from django.core.management import call_command

    from benchmarks import testbed

    own = settings.DATABASES["default"]
    with testbed.server() as server:
        server.execute(f'DROP DATABASE IF EXISTS "{own["NAME"]}" WITH (FORCE)')
        server.execute(f'CREATE DATABASE "{own["NAME"]}"')
    call_command("migrate", verbosity=0)


def fill(count: int) -> None:
    """Make subscriptions, and rows for so many deliveries."""
    from django.db import connection

    from django_webhooks.models import Endpoint, Subscription

    for number in range(SUBSCRIPTIONS):
        made = Subscription(name=f"Subscription {number:03}", event_types=["order.*"])
        made.save()
        for position in range(2):
            url = f"https://host-{number}.example/{position}"
            Endpoint.objects.create(subscription=made, url=url, position=position)
    now = times.now()
    with connection.cursor() as cursor:
        deliveries(cursor, count, since=now - timedelta(days=30), until=now, waiting=500)
        cursor.execute("VACUUM ANALYZE")


def main() -> None:
    """Fill the database, and count the roll-ups."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--attempts", type=int, default=1_000_000)
    attempts = parser.parse_args().attempts
    import django

    django.setup()
    from django_webhooks.models import Attempt, Delivery
    from django_webhooks.sending.figures import rollups

    began = time.perf_counter()
    database()
    fill(attempts * 3 // 10)
    print(
        f"{Delivery.objects.count():,} deliveries and {Attempt.objects.count():,} attempts in "
        f"{time.perf_counter() - began:.0f} s"
    )
    began = time.perf_counter()
    periods = rollups.count(max_seconds=600)
    print(f"{periods:,} periods were counted in {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()

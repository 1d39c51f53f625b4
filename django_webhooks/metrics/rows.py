"""What the rows say at each scrape: what waits, what is not well, and who is at work.

Each query has an index, and stops at :data:`COUNTED`: a scrape costs the same in a quiet hour and
with a million deliveries that wait.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from django.db import DatabaseError
from django.db.models import Count, QuerySet
from prometheus_client.core import GaugeMetricFamily

from ..conf import settings
from ..models import Delivery, Health, InboxMessage, Pulse, Subscription
from ..sending import outbox, statistics
from ..sending.clock import DatabaseClock
from . import PREFIX

logger = logging.getLogger(__name__)

#: No count goes further.
COUNTED = statistics.COUNTED
DAY = timedelta(days=1)


def families() -> Iterator[GaugeMetricFamily]:
    """Yield what the rows say; where the database fails, that alone."""
    using = outbox.database()
    try:
        found = list(_families(using=using, now=DatabaseClock(using=using)()))
    except DatabaseError as error:
        logger.warning("The rows could not be read for metrics: %s", type(error).__name__)
        found = []
    yield _gauge("database_up", "Whether the rows could be read.", float(bool(found)))
    yield from found


def _families(*, using: str, now: datetime) -> Iterator[GaugeMetricFamily]:
    yield from _deliveries(using=using, now=now)
    yield from _inbox(using=using, now=now)
    yield _labelled(
        "subscriptions",
        "Subscriptions by status.",
        "status",
        dict.fromkeys(Subscription.Status.values, 0)
        | _counts(Subscription.objects.using(using), "status"),
    )
    yield _labelled("endpoints", "Endpoints by health.", "health", _endpoints(using=using))
    ages = {
        name: max(0.0, (now - at).total_seconds())
        for name, at in Pulse.objects.using(using).values_list("name", "at")
    }
    yield _labelled("pulse_age_seconds", "Since a task last ran.", "task", ages)


def _deliveries(*, using: str, now: datetime) -> Iterator[GaugeMetricFamily]:
    rows = Delivery.objects.using(using)
    backlog = statistics.backlog(using=using)
    yield _gauge("deliveries_due", "Deliveries that a worker may take now.", backlog.due)
    yield _gauge("deliveries_held", "Deliveries that wait for their subscription.", backlog.held)
    yield _gauge("deliveries_leased", "Deliveries that a worker has.", _leased(rows, now=now))
    yield _gauge(
        "deliveries_oldest_due_age_seconds",
        "Since when the delivery is due that is due the longest.",
        _age(backlog.oldest_due, now=now),
    )
    given_up = rows.given_up().filter(finished_at__gte=now - DAY)
    yield _gauge(
        "deliveries_given_up_last_day",
        "Deliveries given up within a day.",
        given_up[:COUNTED].count(),
    )


def _inbox(*, using: str, now: datetime) -> Iterator[GaugeMetricFamily]:
    rows = InboxMessage.objects.using(using)
    due = rows.due(now)
    yield _gauge("inbox_due", "Received messages to be handled.", due[:COUNTED].count())
    yield _gauge(
        "inbox_oldest_due_age_seconds",
        "Since when the received message is due that is due the longest.",
        _age(due.values_list("due_at", flat=True).first(), now=now),
    )
    given_up = rows.given_up().filter(finished_at__gte=now - DAY)
    yield _gauge(
        "inbox_given_up_last_day",
        "Received messages given up within a day.",
        given_up[:COUNTED].count(),
    )


def _leased(rows: QuerySet[Delivery], *, now: datetime) -> int:
    # A lease ends soon: what is due later is not even looked at.
    ends = now + timedelta(seconds=settings.WEBHOOKS_LEASE_SECONDS)
    # The index begins with the priority.
    soon = rows.filter(
        priority__in=Delivery.Priority.values, due_at__gt=now, due_at__lte=ends
    ).order_by()
    return int(soon[:COUNTED].aggregate(leased=Count("lease_token"))["leased"])


def _endpoints(*, using: str) -> dict[str, int]:
    rows = Health.objects.using(using)
    counts = dict.fromkeys(Health.State.values, 0)
    counts |= _counts(rows.filter(endpoint__disabled_at__isnull=True), "state")
    return counts | {"disabled": rows.filter(endpoint__disabled_at__isnull=False).count()}


def _counts(rows: QuerySet[Any], field: str) -> dict[str, int]:
    return dict(rows.order_by().values_list(field).annotate(count=Count("pk")))


def _age(moment: datetime | None, *, now: datetime) -> float:
    return max(0.0, (now - moment).total_seconds()) if moment else 0.0


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{PREFIX}{name}", text, value=value)


def _labelled(name: str, text: str, label: str, values: dict[str, Any]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"{PREFIX}{name}", text, labels=[label])
    for key, value in sorted(values.items()):
        family.add_metric([key], value)
    return family

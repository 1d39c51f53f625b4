"""Gauges read off the rows at each scrape: the backlog, problems, and tasks at work.

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

from .. import extensions
from ..conf import settings
from ..models import Delivery, EndpointHealth, Subscription
from ..models.figures.heartbeat import Heartbeat
from ..sending import database
from ..sending.database import DatabaseClock
from ..sending.figures import health_report, statistics
from . import PREFIX

logger = logging.getLogger("django_webhooks.metrics")

#: No count goes further.
COUNTED = statistics.COUNTED
DAY = timedelta(days=1)


def families() -> Iterator[GaugeMetricFamily]:
    """Yield what the rows say; where the database fails, that alone."""
    using = database.alias()
    try:
        found = list(_families(using=using, now=DatabaseClock(using=using)()))
    except DatabaseError as error:
        logger.warning("The rows could not be read for metrics: %s", type(error).__name__)
        found = []
    yield gauge("database_up", "Whether the rows could be read.", float(bool(found)))
    yield from found


def _families(*, using: str, now: datetime) -> Iterator[GaugeMetricFamily]:
    yield from _deliveries(using=using, now=now)
    for one in extensions.installed():
        yield from one.metrics(now=now)
    yield from _problems(using=using, now=now)
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
        for name, at in Heartbeat.objects.using(using).values_list("name", "at")
    }
    yield _labelled("heartbeat_age_seconds", "Since a task last ran.", "task", ages)


def _problems(*, using: str, now: datetime) -> Iterator[GaugeMetricFamily]:
    report = health_report.report(using=using, now=now)
    yield _labelled(
        "problems",
        "What is not well, by kind: the same that webhooks_health says.",
        "kind",
        {kind.value: report.count(kind) for kind in health_report.kinds()},
    )


def _deliveries(*, using: str, now: datetime) -> Iterator[GaugeMetricFamily]:
    rows = Delivery.objects.using(using)
    backlog = statistics.backlog(using=using)
    yield gauge("events_waiting", "Events whose deliveries are not made yet.", backlog.events)
    yield gauge("deliveries_due", "Deliveries that a worker may take now.", backlog.due)
    yield gauge("deliveries_held", "Deliveries that wait for their subscription.", backlog.held)
    yield gauge("deliveries_leased", "Deliveries that a worker has.", _leased(rows, now=now))
    yield gauge(
        "deliveries_oldest_due_age_seconds",
        "Since when the delivery is due that is due the longest.",
        age(backlog.oldest_due, now=now),
    )
    given_up = rows.given_up().filter(finished_at__gte=now - DAY)
    yield gauge(
        "deliveries_given_up_last_day",
        "Deliveries given up within a day.",
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
    rows = EndpointHealth.objects.using(using)
    counts = dict.fromkeys(EndpointHealth.State.values, 0)
    counts |= _counts(rows.filter(endpoint__disabled_at__isnull=True), "state")
    return counts | {"disabled": rows.filter(endpoint__disabled_at__isnull=False).count()}


def _counts(rows: QuerySet[Any], field: str) -> dict[str, int]:
    return dict(rows.order_by().values_list(field).annotate(count=Count("pk")))


def age(moment: datetime | None, *, now: datetime) -> float:
    """Return the seconds since a moment, 0 for none."""
    return max(0.0, (now - moment).total_seconds()) if moment else 0.0


def gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    """Return a family of one value, under our prefix."""
    return GaugeMetricFamily(f"{PREFIX}{name}", text, value=value)


def _labelled(name: str, text: str, label: str, values: dict[str, Any]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"{PREFIX}{name}", text, labels=[label])
    for key, value in sorted(values.items()):
        family.add_metric([key], value)
    return family

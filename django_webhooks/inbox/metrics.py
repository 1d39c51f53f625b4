"""Metrics of the inbox, beside those of :mod:`django_webhooks.metrics`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from prometheus_client import Counter
from prometheus_client.core import GaugeMetricFamily

from ..metrics import PREFIX
from ..metrics.rows import COUNTED, DAY, age, gauge
from . import deduplication, signals
from .models import InboxMessage

GIVEN_UP = Counter(
    f"{PREFIX}inbox_given_up", "Received messages that are not handled again by themselves."
)


def families(*, now: datetime) -> Iterator[GaugeMetricFamily]:
    """Yield what waits, and what was given up."""
    rows = InboxMessage.objects.using(deduplication.database())
    due = rows.due(now)
    yield gauge("inbox_due", "Received messages to be handled.", due[:COUNTED].count())
    yield gauge(
        "inbox_oldest_due_age_seconds",
        "Since when the received message is due that is due the longest.",
        age(due.values_list("due_at", flat=True).first(), now=now),
    )
    given_up = rows.given_up().filter(finished_at__gte=now - DAY)
    yield gauge(
        "inbox_given_up_last_day",
        "Received messages given up within a day.",
        given_up[:COUNTED].count(),
    )


def _message_given_up(**kwargs: Any) -> None:
    GIVEN_UP.inc()


RECEIVERS = ((signals.message_given_up, _message_given_up),)

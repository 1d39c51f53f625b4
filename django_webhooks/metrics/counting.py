"""What is counted as it happens, by receivers of our signals, in every process."""

from __future__ import annotations

import functools
import http
import time
from typing import Any
from uuid import UUID

from django.db import DatabaseError
from prometheus_client import Counter, Histogram

from .. import signals
from ..conf import settings
from ..models import Subscription
from ..sending import outbox
from . import PREFIX

#: Seconds of a request: up to the longest time-out that is of use.
REQUEST_SECONDS = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0)
#: Seconds from an event to its arrival: at once, in a retry, after a night, after days.
ARRIVAL_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 21600.0, 86400.0)
#: Seconds for which a process remembers which subscriptions have a label of their own.
REMEMBERED = 60.0
#: The label of all subscriptions that have none of their own.
OTHERS = "other"

EVENTS = Counter(f"{PREFIX}events", "Events that were recorded for somebody.")
DELIVERIES = Counter(f"{PREFIX}deliveries", "Deliveries that were recorded.")
ATTEMPTS = Counter(
    f"{PREFIX}attempts", "Requests that ended and were recorded.", ["outcome", "reason"]
)
ATTEMPT_DURATION = Histogram(
    f"{PREFIX}attempt_duration_seconds",
    "How long requests took.",
    ["outcome"],
    buckets=REQUEST_SECONDS,
)
ARRIVAL = Histogram(
    f"{PREFIX}event_to_arrival_seconds",
    "From the record of an event, or of its replay, to its arrival.",
    buckets=ARRIVAL_SECONDS,
)
SUCCEEDED = Counter(f"{PREFIX}deliveries_succeeded", "Deliveries that arrived.")
GIVEN_UP = Counter(
    f"{PREFIX}deliveries_given_up", "Deliveries that are not tried again.", ["reason"]
)
ENDPOINT_CHANGES = Counter(
    f"{PREFIX}endpoint_changes", "Endpoints that fell, recovered or were disabled.", ["change"]
)
SWITCHES = Counter(f"{PREFIX}switches", "Changes of active endpoints.", ["cause"])
DISABLED = Counter(
    f"{PREFIX}subscriptions_disabled", "Subscriptions that failed for so long that they were ended."
)
INBOX_GIVEN_UP = Counter(
    f"{PREFIX}inbox_given_up", "Received messages that are not handled again by themselves."
)
BY_SUBSCRIPTION = Counter(
    f"{PREFIX}subscription_attempts",
    "Requests by subscription, for as many as WEBHOOKS_METRICS_SUBSCRIPTIONS.",
    ["subscription", "outcome"],
)

_KNOWN_STATUSES = frozenset(f"http_{status.value}" for status in http.HTTPStatus)


class _Labelled:
    """The subscriptions that have a label of their own: the oldest, the same in each process."""

    def __init__(self) -> None:
        self._keys: frozenset[UUID] = frozenset()
        self._until = float("-inf")

    def label(self, key: UUID | None, *, limit: int) -> str:
        """Return the label of a subscription."""
        if time.monotonic() >= self._until:
            self._read(limit)
        return str(key) if key in self._keys else OTHERS

    def forget(self) -> None:
        """Look again."""
        self._until = float("-inf")

    def _read(self, limit: int) -> None:
        rows = Subscription.objects.using(outbox.database()).order_by("pk")
        self._until = time.monotonic() + REMEMBERED
        try:
            self._keys = frozenset(rows.values_list("pk", flat=True)[:limit])
        except DatabaseError:  # What was known is good enough.
            return


labelled = _Labelled()


def bounded(reason: str) -> str:
    """Return a reason as a label: a receiver that invents statuses makes no new ones."""
    if reason.startswith("http_") and reason not in _KNOWN_STATUSES:
        return "http_other"
    return reason


# Found once, each: looking a label up costs as much as counting.
_attempts = functools.cache(ATTEMPTS.labels)
_attempt_duration = functools.cache(ATTEMPT_DURATION.labels)


def _recorded(*, deliveries: Any, **kwargs: Any) -> None:
    EVENTS.inc()
    DELIVERIES.inc(len(deliveries))


def _attempted(*, attempt: Any, delivery: Any, **kwargs: Any) -> None:
    _attempts(attempt.outcome, bounded(attempt.reason)).inc()
    _attempt_duration(attempt.outcome).observe(attempt.duration_ms / 1000)
    if limit := settings.WEBHOOKS_METRICS_SUBSCRIPTIONS:
        key = labelled.label(delivery.subscription_id, limit=limit)
        BY_SUBSCRIPTION.labels(key, attempt.outcome).inc()


def _succeeded(*, delivery: Any, **kwargs: Any) -> None:
    SUCCEEDED.inc()
    # Two machines' clocks may differ.
    ARRIVAL.observe(max(0.0, (delivery.finished_at - delivery.created_at).total_seconds()))


def _given_up(*, delivery: Any, **kwargs: Any) -> None:
    GIVEN_UP.labels(bounded(delivery.reason)).inc()


def _fell(**kwargs: Any) -> None:
    ENDPOINT_CHANGES.labels("unhealthy").inc()


def _recovered(**kwargs: Any) -> None:
    ENDPOINT_CHANGES.labels("recovered").inc()


def _endpoint_disabled(**kwargs: Any) -> None:
    ENDPOINT_CHANGES.labels("disabled").inc()


def _switched(*, switch: Any, **kwargs: Any) -> None:
    SWITCHES.labels(switch.cause).inc()


def _subscription_disabled(**kwargs: Any) -> None:
    DISABLED.inc()


def _message_given_up(**kwargs: Any) -> None:
    INBOX_GIVEN_UP.inc()


RECEIVERS = (
    (signals.event_recorded, _recorded),
    (signals.attempt_finished, _attempted),
    (signals.delivery_succeeded, _succeeded),
    (signals.delivery_given_up, _given_up),
    (signals.endpoint_unhealthy, _fell),
    (signals.endpoint_recovered, _recovered),
    (signals.endpoint_disabled, _endpoint_disabled),
    (signals.subscription_switched, _switched),
    (signals.subscription_disabled, _subscription_disabled),
    (signals.message_given_up, _message_given_up),
)


def connect() -> None:
    """Count from now on; twice does no harm."""
    for signal, receiver in RECEIVERS:
        signal.connect(receiver, dispatch_uid=f"{PREFIX}{receiver.__name__}")


def disconnect() -> None:
    """Count no more."""
    for signal, receiver in RECEIVERS:
        signal.disconnect(dispatch_uid=f"{PREFIX}{receiver.__name__}")

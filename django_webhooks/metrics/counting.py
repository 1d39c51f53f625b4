"""Counters of events as they happen, by receivers of our signals, in every process."""

from __future__ import annotations

import functools
import http
from collections.abc import Iterator
from typing import Any

from django.dispatch import Signal
from prometheus_client import Counter, Histogram

from .. import extensions, process_state, signals
from ..policies.reasons import HttpReason, Reason
from . import PREFIX

#: Seconds of a request: up to the longest time-out that is of use.
REQUEST_SECONDS = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0)
#: Seconds from an event to its arrival: at once, in a retry, after a night, after days.
ARRIVAL_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 21600.0, 86400.0)

EVENTS = Counter(f"{PREFIX}events", "Events that were recorded.")
DELIVERIES = Counter(f"{PREFIX}deliveries", "Deliveries that workers made of events.")
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
READABILITY = Counter(
    f"{PREFIX}subscription_readability_changes",
    "Subscriptions whose URLs or keys stopped, or began, to open.",
    ["change"],
)
SITE = Counter(
    f"{PREFIX}site_changes",
    "Times that workers, beat, keys or events were noticed not to be well, or to be well again.",
    ["change"],
)

_KNOWN = frozenset({"", *Reason, *(HttpReason(status) for status in http.HTTPStatus)})


def bounded(reason: str) -> str:
    """Return a reason as a label: a receiver that invents statuses makes no new ones."""
    if reason in _KNOWN:
        return reason
    return "http_other" if reason.startswith("http_") else "other"


# Found once, each: looking a label up costs as much as counting.
_attempts = process_state.memo(functools.cache(ATTEMPTS.labels))
_attempt_duration = process_state.memo(functools.cache(ATTEMPT_DURATION.labels))


def _fanned_out(*, deliveries: Any, **kwargs: Any) -> None:
    DELIVERIES.inc(len(deliveries))


def _attempted(*, attempt: Any, **kwargs: Any) -> None:
    _attempts(attempt.outcome, bounded(attempt.reason)).inc()
    _attempt_duration(attempt.outcome).observe(attempt.duration_ms / 1000)


def _succeeded(*, delivery: Any, **kwargs: Any) -> None:
    SUCCEEDED.inc()
    # Two machines' clocks may differ.
    ARRIVAL.observe(max(0.0, (delivery.finished_at - delivery.created_at).total_seconds()))


def _given_up(*, delivery: Any, **kwargs: Any) -> None:
    GIVEN_UP.labels(bounded(delivery.reason)).inc()


def _switched(*, switch: Any, **kwargs: Any) -> None:
    SWITCHES.labels(switch.cause).inc()


def _counts(counter: Counter, *labels: str) -> Any:
    """Return a receiver that counts one more."""

    def count(**kwargs: Any) -> None:
        (counter.labels(*labels) if labels else counter).inc()

    return count


RECEIVERS = (
    (signals.event_recorded, _counts(EVENTS)),
    (signals.event_fanned_out, _fanned_out),
    (signals.attempt_finished, _attempted),
    (signals.delivery_succeeded, _succeeded),
    (signals.delivery_given_up, _given_up),
    (signals.endpoint_unhealthy, _counts(ENDPOINT_CHANGES, "unhealthy")),
    (signals.endpoint_recovered, _counts(ENDPOINT_CHANGES, "recovered")),
    (signals.endpoint_disabled, _counts(ENDPOINT_CHANGES, "disabled")),
    (signals.subscription_switched, _switched),
    (signals.subscription_disabled, _counts(DISABLED)),
    (signals.subscription_unreadable, _counts(READABILITY, "unreadable")),
    (signals.subscription_readable, _counts(READABILITY, "readable")),
    (signals.site_not_well, _counts(SITE, "not_well")),
    (signals.site_well, _counts(SITE, "well")),
)


def _receivers() -> Iterator[tuple[Signal, Any]]:
    yield from RECEIVERS
    for one in extensions.installed():
        yield from one.counters()


def connect() -> None:
    """Count from now on; twice does no harm."""
    for signal, receiver in _receivers():
        signal.connect(receiver, dispatch_uid=PREFIX)


def disconnect() -> None:
    """Count no more."""
    for signal, _ in _receivers():
        signal.disconnect(dispatch_uid=PREFIX)

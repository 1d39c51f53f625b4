"""Tracing: spans from the record of an event to its attempts, where OpenTelemetry is installed.

    emit (producer) ── trace_parent, kept with the event ──► deliver (consumer) ── attempt (client)

A delivery that is attempted soon goes on with the trace of its event; later ones begin a trace of
their own that is linked to it, because nobody keeps a trace open for days.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.utils.module_loading import import_string

from ... import __version__
from ...conf import settings
from ...models import Event, Subscription

try:
    from opentelemetry import trace
    from opentelemetry.context import Context
    from opentelemetry.trace import Link, Span, SpanKind, StatusCode
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError:  # The extra "tracing" is not installed.
    IS_INSTALLED = False
else:
    IS_INSTALLED = True

if TYPE_CHECKING:
    from ..attempts import Job, Result

logger = logging.getLogger("django_webhooks.sending")

#: The header of https://www.w3.org/TR/trace-context/, and the only one of it that is sent.
HEADER = "traceparent"
#: Time since the event for which attempts belong to its trace.
JOINED_FOR = timedelta(minutes=10)
#: The name in ``messaging.system``; the conventions ask for one where theirs do not fit.
SYSTEM = "django_webhooks"

#: The span of the attempt that is being made, and of nothing else that happens to be traced.
_attempt: ContextVar[Any] = ContextVar("webhooks_attempt_span", default=None)


def emitting(events: Sequence[Event]) -> AbstractContextManager[None]:
    """Trace the record of events, and let each remember the span that recorded it."""
    return _emitting(events) if events and _is_on() else nullcontext()


@contextmanager
def _emitting(events: Sequence[Event]) -> Iterator[None]:
    types = {event.type for event in events}
    attributes = _messaging("emit", "send", types.pop() if len(types) == 1 else "")
    if len(events) == 1:
        attributes["messaging.message.id"] = events[0].message_id
    else:
        attributes["messaging.batch.message_count"] = len(events)
    with _span("emit", SpanKind.PRODUCER, attributes) as span:
        parent = _trace_parent(span)
        for event in events:
            event.trace_parent = parent
        yield


def attempted(make: Callable[..., Result]) -> Callable[..., Result]:
    """Trace attempts: the turn of the delivery, and in it the request."""
    if not IS_INSTALLED:
        return make

    @functools.wraps(make)
    def traced(job: Job, *, now: datetime) -> Result:
        if not _is_on():
            return make(job, now=now)
        event = job.delivery.event
        parent, links = _origin(event, now=now)
        message = {
            **_messaging("deliver", "process", event.type),
            "messaging.message.id": job.delivery.message_id,
            "webhooks.delivery": str(job.delivery.pk),
            "webhooks.subscription": str(job.subscription.pk),
        }
        with (
            _span("deliver", SpanKind.CONSUMER, message, context=parent, links=links) as turn,
            _span("attempt", SpanKind.CLIENT, _client(job)) as span,
        ):
            token = _attempt.set(span)
            try:
                result = make(job, now=now)
            finally:
                _attempt.reset(token)
            _tell(result, span, turn)
        return result

    return traced


def headers(subscription: Subscription) -> dict[str, str]:
    """Return the traceparent of the attempt that is being made, where it is to be sent."""
    span = _attempt.get()
    if span is None or not _may_send(subscription):
        return {}
    value = _trace_parent(span)
    return {HEADER: value} if value else {}


def _is_on() -> bool:
    """Say whether there is somebody who takes spans: until a project says who, there is nobody."""
    if not IS_INSTALLED:
        return False
    nobody = (trace.ProxyTracerProvider, trace.NoOpTracerProvider)
    return not isinstance(trace.get_tracer_provider(), nobody)


def _may_send(subscription: Subscription) -> bool:
    asked = settings.WEBHOOKS_SEND_TRACEPARENT
    if isinstance(asked, bool):
        return asked
    try:
        return bool((import_string(asked) if isinstance(asked, str) else asked)(subscription))
    except Exception:  # What arrives matters more than that it is traced.
        logger.exception("WEBHOOKS_SEND_TRACEPARENT failed; no traceparent is sent.")
        return False


def _origin(event: Event, *, now: datetime) -> tuple[Context, list[Link]]:
    """Return in which context an attempt is made, and what it is linked to."""
    nothing = Context()
    if not event.trace_parent:
        return nothing, []
    carrier = {HEADER: event.trace_parent}
    origin = TraceContextTextMapPropagator().extract(carrier, context=nothing)
    if now - event.created_at <= JOINED_FOR:
        return origin, []
    found = trace.get_current_span(origin).get_span_context()
    return nothing, [Link(found)] if found.is_valid else []


def _trace_parent(span: Span) -> str:
    """Return the span as a traceparent; empty where nothing records spans."""
    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier, context=trace.set_span_in_context(span))
    return carrier.get(HEADER, "")


def _messaging(name: str, kind: str, event_type: str) -> dict[str, Any]:
    """Return attributes of https://opentelemetry.io/docs/specs/semconv/messaging/."""
    attributes = {
        "messaging.system": SYSTEM,
        "messaging.operation.name": name,
        "messaging.operation.type": kind,
    }
    return attributes | ({"messaging.destination.name": event_type} if event_type else {})


def _client(job: Job) -> dict[str, Any]:
    """Return attributes of https://opentelemetry.io/docs/specs/semconv/http/http-spans/.

    Without ``url.full``: paths and queries of webhooks are often secrets.
    """
    attributes: dict[str, Any] = {
        "http.request.method": "POST",
        "server.address": job.endpoint.host,
        "webhooks.endpoint": str(job.endpoint.pk),
        "webhooks.attempt": job.number,
    }
    if job.number > 1:
        attributes["http.request.resend_count"] = job.number - 1
    return attributes


def _tell(result: Result, span: Span, turn: Span) -> None:
    """Write what an attempt brought into its spans."""
    status = getattr(result.response, "status", None)
    if status is not None:
        span.set_attribute("http.response.status_code", status)
    for one in (span, turn):
        one.set_attribute("webhooks.outcome", result.outcome.verdict.value)
        if result.outcome.reason:
            one.set_attribute(
                "error.type", str(status) if status is not None else result.outcome.reason
            )
            one.set_attribute("webhooks.reason", result.outcome.reason)
            one.set_status(StatusCode.ERROR)


@contextmanager
def _span(
    name: str,
    kind: SpanKind,
    attributes: dict[str, Any],
    *,
    context: Context | None = None,
    links: Sequence[Link] = (),
) -> Iterator[Span]:
    """Begin a span, and end it without what an exception says: that may quote a secret."""
    tracer = trace.get_tracer("django_webhooks", __version__)
    destination = attributes.get("messaging.destination.name", "")
    with tracer.start_as_current_span(
        f"{name} {destination}".strip(),
        context=context,
        kind=kind,
        attributes=attributes,
        links=links,
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        try:
            yield span
        except BaseException as error:
            span.set_attribute("error.type", type(error).__name__)
            span.set_status(StatusCode.ERROR)
            raise

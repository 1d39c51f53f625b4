"""Traces: from the span that emits to the attempt that a receiver sees."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import textwrap

import pytest
import urllib3
from django.db import DatabaseError
from opentelemetry import baggage, trace
from opentelemetry import context as contexts
from opentelemetry.instrumentation.urllib3 import URLLib3Instrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode

from django_webhooks.models import Delivery, Event
from django_webhooks.sending import attempts, health_checks, recording, wire, worker
from django_webhooks.sending.recording import Draft, outbox
from tests import factories
from tests.factories import Clock
from tests.receivers import receiving

pytestmark = pytest.mark.django_db


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def exported(monkeypatch):
    """What the SDK exported, in order, by a function that returns it."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    return exporter.get_finished_spans


@pytest.fixture
def spans(exported):
    """The same, by name."""
    return lambda: {span.name: span for span in exported()}


@pytest.fixture
def sending(settings):
    settings.WEBHOOKS_SEND_TRACEPARENT = True


def id_of(span):
    return span.get_span_context().span_id


def trace_of(span):
    return span.get_span_context().trace_id


def written(span):
    context = span.get_span_context()
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


@pytest.mark.usefixtures("sending")
def test_from_the_request_that_emits_to_the_receiver_it_is_one_trace(spans, clock):
    with receiving(204) as receiver:
        factories.subscription(url=receiver.url)
        with trace.get_tracer("site").start_as_current_span("request") as request:
            factories.record()
        worker.drain(clock=clock)

    names = ("emit order.paid", "deliver order.paid", "attempt")
    emit, deliver, sent = (spans()[name] for name in names)
    assert {trace_of(span) for span in (emit, deliver, sent)} == {trace_of(request)}
    assert [span.parent.span_id for span in (emit, deliver, sent)] == [
        id_of(request),
        id_of(emit),
        id_of(deliver),
    ]
    assert [span.kind for span in (emit, deliver, sent)] == [
        SpanKind.PRODUCER,
        SpanKind.CONSUMER,
        SpanKind.CLIENT,
    ]
    [received] = receiver.requests
    assert received.headers["traceparent"] == written(sent)
    assert Event.objects.get().trace_parent == written(emit)


def test_attributes_follow_the_conventions_and_hold_no_url(spans, clock):
    with receiving(204) as receiver:
        subscription = factories.subscription(url=f"{receiver.url}/secret?token=hidden")
        factories.record()
        worker.drain(clock=clock)

    event, delivery = Event.objects.get(), Delivery.objects.get()
    assert dict(spans()["emit order.paid"].attributes) == {
        "messaging.system": "django_webhooks",
        "messaging.operation.name": "emit",
        "messaging.operation.type": "send",
        "messaging.destination.name": "order.paid",
        "messaging.message.id": event.message_id,
    }
    assert dict(spans()["deliver order.paid"].attributes) == {
        "messaging.system": "django_webhooks",
        "messaging.operation.name": "deliver",
        "messaging.operation.type": "process",
        "messaging.destination.name": "order.paid",
        "messaging.message.id": event.message_id,
        "webhooks.delivery": str(delivery.pk),
        "webhooks.subscription": str(subscription.pk),
        "webhooks.outcome": "succeeded",
    }
    sent = spans()["attempt"]
    assert sent.attributes["http.request.method"] == "POST"
    assert sent.attributes["server.address"] == subscription.endpoints.get().host
    assert sent.attributes["http.response.status_code"] == 204
    assert "http.request.resend_count" not in sent.attributes
    told = " ".join(span.to_json() for span in spans().values())
    assert "secret" not in told
    assert "hidden" not in told


def test_a_failed_attempt_is_an_error_with_its_reason_and_a_retry_says_that_it_is_one(spans, clock):
    with receiving(503, 204) as receiver:
        factories.subscription(url=receiver.url)
        factories.record()
        worker.drain(clock=clock)
        failed = spans()["attempt"]
        clock.move(seconds=60)
        worker.drain(clock=clock)

    assert failed.status.status_code is StatusCode.ERROR
    assert failed.attributes["error.type"] == "503"
    assert failed.attributes["webhooks.reason"] == "http_503"
    again = spans()["attempt"]
    assert again.attributes["http.request.resend_count"] == 1
    assert again.status.status_code is StatusCode.UNSET
    assert trace_of(again) == trace_of(failed)


def test_no_answer_at_all_is_an_error_of_its_kind(spans, clock):
    factories.delivery("http://127.0.0.1:9/hook")
    worker.drain(clock=clock)

    sent = spans()["attempt"]
    assert sent.attributes["error.type"] == "connection"
    assert "http.response.status_code" not in sent.attributes


def test_a_retry_much_later_has_a_trace_of_its_own_that_is_linked(spans, clock):
    with receiving(503, 204) as receiver:
        factories.subscription(url=receiver.url)
        factories.record()
        worker.drain(clock=clock)
        clock.move(minutes=20)
        worker.drain(clock=clock)

    assert len(receiver.requests) == 2
    emit, late = spans()["emit order.paid"], spans()["deliver order.paid"]
    assert late.parent is None
    assert trace_of(late) != trace_of(emit)
    [link] = late.links
    assert (link.context.trace_id, link.context.span_id) == (trace_of(emit), id_of(emit))


def test_what_is_recorded_together_shares_a_span(spans):
    factories.subscription()
    types = ("order.paid", "order.item.added")

    recording.record([Draft(event_type=name, data={}) for name in types], using="default")

    [span] = spans().values()
    assert span.name == "emit"
    assert span.attributes["messaging.batch.message_count"] == 2
    assert {event.trace_parent for event in Event.objects.all()} == {written(span)}


def test_what_nobody_hears_has_no_span(spans):
    factories.record()

    assert spans() == {}


def test_an_event_for_one_subscription_is_traced_as_well(spans):
    subscription = factories.subscription()
    draft = Draft(event_type="order.paid", data={})

    delivery = recording.record_for(subscription, draft, using="default")

    delivery.event.refresh_from_db()
    assert delivery.event.trace_parent == written(spans()["emit order.paid"])


def test_an_event_of_a_process_without_tracing_begins_its_trace_at_the_worker(
    monkeypatch, spans, clock
):
    with receiving(204) as receiver:
        factories.subscription(url=receiver.url)
        factories.record()
        Event.objects.update(trace_parent="")
        worker.drain(clock=clock)

    deliver = spans()["deliver order.paid"]
    assert (deliver.parent, list(deliver.links)) == (None, [])


@pytest.mark.parametrize("minutes", [0, 20])
def test_a_broken_trace_parent_harms_nothing(spans, clock, minutes):
    with receiving(204) as receiver:
        factories.subscription(url=receiver.url)
        factories.record()
        Event.objects.update(trace_parent="00-nonsense")
        clock.move(minutes=minutes)
        worker.drain(clock=clock)

    assert len(receiver.requests) == 1
    assert list(spans()["deliver order.paid"].links) == []


def test_a_span_of_a_failure_tells_nothing_of_what_the_error_says(spans, monkeypatch):
    factories.subscription()

    def fail(*args, **kwargs):
        raise DatabaseError("the row with the secret")

    monkeypatch.setattr(outbox, "_store", fail)
    with pytest.raises(DatabaseError):
        factories.record()

    [span] = spans().values()
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes["error.type"] == "DatabaseError"
    assert "secret" not in span.to_json()


class TestTheHeader:
    """Receivers are strangers: they see the trace where somebody says so."""

    def sent(self, clock, **fields):
        with receiving(204) as receiver:
            factories.subscription(url=receiver.url, **fields)
            factories.record()
            worker.drain(clock=clock)
        [request] = receiver.requests
        return request.headers.get("traceparent")

    @pytest.mark.usefixtures("spans")
    def test_by_default_it_is_not_sent(self, clock):
        assert self.sent(clock) is None

    @pytest.mark.usefixtures("spans")
    def test_a_callable_says_who_sees_it(self, clock, settings):
        settings.WEBHOOKS_SEND_TRACEPARENT = lambda subscription: subscription.name == "ours"

        assert self.sent(clock, name="theirs", event_types=["order.paid"]) is None
        Delivery.objects.all().delete()
        assert self.sent(clock, name="ours") is not None

    @pytest.mark.usefixtures("spans")
    def test_a_callable_that_fails_costs_the_header_alone(self, clock, settings, caplog):
        settings.WEBHOOKS_SEND_TRACEPARENT = "tests.integration.sending.wire.test_tracing.fail"

        assert self.sent(clock) is None
        assert Delivery.objects.get().status == "succeeded"
        assert "WEBHOOKS_SEND_TRACEPARENT failed" in caplog.text

    @pytest.mark.usefixtures("sending")
    def test_where_nothing_records_spans_there_is_none(self, clock):
        assert self.sent(clock) is None
        assert Event.objects.get().trace_parent == ""

    @pytest.mark.usefixtures("sending")
    def test_what_is_not_sampled_says_so(self, clock, monkeypatch):
        provider = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
        monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)

        flags = int(self.sent(clock).rpartition("-")[2], 16)
        assert not flags & 1

    @pytest.mark.usefixtures("spans", "sending")
    def test_the_command_that_the_admin_shows_has_none(self, clock):
        delivery = factories.delivery()
        job = attempts.Job(
            delivery=delivery,
            subscription=delivery.subscription,
            endpoint=delivery.subscription.endpoints.get(),
            policy=delivery.subscription.retry_policy,
        )
        with trace.get_tracer("site").start_as_current_span("request"):
            assert "traceparent" not in wire.request_headers(job, now=clock())


def fail(subscription):
    raise RuntimeError


@pytest.fixture
def instrumented(spans):
    """Have urllib3 instrumented as a project might, with something to tell in the baggage."""
    URLLib3Instrumentor().instrument(tracer_provider=trace.get_tracer_provider())
    token = contexts.attach(baggage.set_baggage("customer", "acme"))
    yield
    contexts.detach(token)
    URLLib3Instrumentor().uninstrument()


@pytest.mark.usefixtures("instrumented")
def test_an_instrumented_http_library_tells_strangers_nothing(clock, spans):
    def told(request):
        return {"traceparent", "tracestate", "baggage"} & set(request.headers)

    with receiving(204) as receiver:
        urllib3.PoolManager().request("POST", receiver.url, body=b"x")
        subscription = factories.subscription(url=receiver.url)
        endpoint = subscription.endpoints.get()
        endpoint.probe = "ping"
        endpoint.save()
        job = attempts.Job(
            delivery=factories.record()[0],
            subscription=subscription,
            endpoint=endpoint,
            policy=subscription.retry_policy,
        )
        attempts.make(job, now=clock())
        health_checks.check_all(clock=clock, endpoints=[endpoint.pk])

    ordinary, delivered, probed = receiver.requests
    assert told(ordinary) == {"traceparent", "baggage"}
    assert told(delivered) == set()
    assert told(probed) == set()
    assert "POST" in spans()  # That of the ordinary request.


def test_without_opentelemetry_nothing_is_traced_and_nothing_is_wrapped():
    code = """
        import sys
        sys.modules["opentelemetry"] = None
        import django
        django.setup()
        from tests import celery
        from django.core.checks import run_checks
        from django.test.utils import override_settings
        from django_webhooks.sending import attempts
        from django_webhooks.sending.wire import tracing
        assert not tracing.IS_INSTALLED
        assert not hasattr(attempts.make, "__wrapped__")
        with tracing.emitting([None]), override_settings(WEBHOOKS_SEND_TRACEPARENT=True):
            assert tracing.headers(None) == {}
            print([message.id for message in run_checks(tags=["webhooks"])])
    """
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"},
        capture_output=True,
        text=True,
    )

    assert (ran.stdout.strip(), ran.stderr) == ("['webhooks.W025']", "")


def test_nothing_is_logged_of_spans(spans, clock, caplog):
    caplog.set_level(logging.WARNING)
    with receiving(204) as receiver:
        factories.delivery(receiver.url)
        worker.drain(clock=clock)

    assert caplog.records == []

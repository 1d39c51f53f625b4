"""Leased, attempted, recorded: what becomes of deliveries."""

from __future__ import annotations

import time
from datetime import timedelta
from types import SimpleNamespace

import pytest

from django_webhooks import signals, signing
from django_webhooks.models import Attempt, Delivery, Endpoint, Event
from django_webhooks.sending import claims, worker
from django_webhooks.sending.worker import dispatch
from tests import factories
from tests.factories import Clock
from tests.receivers import Answer, receiving
from tests.timing import until

pytestmark = pytest.mark.django_db


@pytest.fixture
def clock():
    return Clock()


def drain(clock, ids=()):
    return worker.drain(ids, clock=clock)


def test_a_delivery_arrives_signed(clock):
    with receiving(204) as receiver:
        delivery = factories.delivery(receiver.url)
        drained = drain(clock)

    [request] = receiver.requests
    assert request.body == bytes(Event.objects.get().body)
    assert request.headers["webhook-id"] == delivery.event.message_id
    assert request.headers["content-type"] == "application/json"
    assert request.headers["user-agent"].startswith("django-webhooks/")
    assert request.headers["webhook-attempt"] == "1"
    assert request.headers["webhook-max-attempts"] == "12"
    assert "webhook-retry-reason" not in request.headers
    signing.verify(
        secrets=[factories.SECRET],
        headers=request.headers,
        body=request.body,
        now=clock().timestamp(),
    )
    assert (drained.attempts, drained.next_in, drained.is_more_due) == (1, None, False)
    delivery.refresh_from_db()
    assert (delivery.status, delivery.attempts_made) == ("succeeded", 1)
    assert (delivery.due_at, delivery.lease_token) == (None, None)
    assert delivery.finished_at == clock()


def test_each_attempt_is_recorded(clock):
    with receiving(Answer(503, {"X-Why": "busy\x00"}, b"try \xff later\x00"), 204) as receiver:
        delivery = factories.delivery(receiver.url)
        drain(clock)
        clock.move(hours=1)
        drain(clock)

    second, first = Attempt.objects.order_by("-number")
    assert (first.number, first.outcome, first.reason) == (1, "retry", "http_503")
    assert (first.status_code, first.response_body) == (503, "try � later�")
    assert first.response_headers["x-why"] == "busy�"
    assert (second.number, second.outcome, second.reason) == (2, "succeeded", "")
    assert first.endpoint == second.endpoint == Endpoint.objects.get()
    assert first.endpoint_host == receiver.url.split("/")[2]
    assert not first.is_late
    delivery.refresh_from_db()
    assert delivery.attempts_made == 2


def test_a_retry_sends_the_same_id_and_bytes_with_a_fresh_timestamp(clock):
    with receiving(500, 204) as receiver:
        factories.delivery(receiver.url)
        drain(clock)
        clock.move(hours=1)
        drain(clock)

    first, second = receiver.requests
    assert first.body == second.body
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    timestamps = [int(one.headers["webhook-timestamp"]) for one in (first, second)]
    assert timestamps[1] - timestamps[0] == 3600
    assert second.headers["webhook-attempt"] == "2"
    assert second.headers["webhook-retry-reason"] == "http_500"


def test_a_failure_waits_by_the_policy(clock):
    with receiving(500) as receiver:
        delivery = factories.delivery(receiver.url)
        drained = drain(clock)
        again = drain(clock)

    delivery.refresh_from_db()
    assert 4 <= (delivery.due_at - clock()).total_seconds() <= 6
    assert drained.next_in == pytest.approx((delivery.due_at - clock()).total_seconds())
    assert (delivery.status, delivery.reason) == ("waiting", "http_500")
    assert again.attempts == 0


def test_retry_after_is_honoured(clock):
    with receiving(Answer(429, {"Retry-After": "3600"})) as receiver:
        delivery = factories.delivery(receiver.url)
        drain(clock)

    delivery.refresh_from_db()
    assert 3600 <= (delivery.due_at - clock()).total_seconds() <= 3601


def test_no_retry_ends_the_delivery(clock):
    with receiving(Answer(500, {"webhook-no-retry": "1"})) as receiver:
        delivery = factories.delivery(receiver.url)
        drain(clock)

    delivery.refresh_from_db()
    assert (delivery.status, delivery.reason) == ("given_up", "receiver_refused")


def test_the_limit_of_the_subscription_ends_the_delivery(clock):
    with receiving(500) as receiver:
        delivery = factories.delivery(receiver.url, retry_attempts=2)
        drain(clock)
        clock.move(hours=1)
        drain(clock)

    delivery.refresh_from_db()
    assert (delivery.status, delivery.attempts_made) == ("given_up", 2)
    assert receiver.requests[0].headers["webhook-max-attempts"] == "2"


def test_an_event_past_its_age_is_given_up_after_the_next_failure(clock):
    with receiving(500) as receiver:
        delivery = factories.delivery(receiver.url)
        clock.move(days=8)
        drain(clock)

    delivery.refresh_from_db()
    assert (delivery.status, delivery.reason) == ("given_up", "expired")


def test_a_410_disables_the_endpoint_and_holds_the_delivery(clock):
    heard = []

    def hear(*, endpoint, reason, **kwargs):
        heard.append((endpoint.pk, reason))

    signals.endpoint_disabled.connect(hear)
    try:
        with receiving(410) as receiver:
            delivery = factories.delivery(receiver.url)
            drain(clock)
    finally:
        signals.endpoint_disabled.disconnect(hear)
    [waiting] = factories.record()
    drain(clock)

    endpoint = Endpoint.objects.get()
    assert (endpoint.disabled_at, endpoint.disabled_reason) == (clock(), "http_410")
    assert heard == [(endpoint.pk, "http_410")]
    delivery.refresh_from_db()
    waiting.refresh_from_db()
    assert (delivery.status, delivery.reason) == ("waiting", "http_410")
    assert (delivery.due_at, delivery.attempts_made) == (None, 1)
    assert (waiting.status, waiting.due_at, waiting.attempts_made) == ("waiting", None, 0)


def test_a_backup_is_used_where_the_primary_is_disabled(clock):
    with receiving(204) as receiver:
        delivery = factories.delivery("http://127.0.0.1:9/")
        Endpoint.objects.create(subscription=delivery.subscription, position=1, url=receiver.url)
        Endpoint.objects.get(position=0).disable("by hand")
        drain(clock)

    delivery.refresh_from_db()
    assert delivery.status == "succeeded"


def test_a_redirect_is_a_failure_that_names_the_location(clock):
    with receiving(Answer(301, {"Location": "https://example.com/new"})) as receiver:
        factories.delivery(receiver.url)
        drain(clock)

    attempt = Attempt.objects.get()
    assert (attempt.outcome, attempt.reason) == ("retry", "redirect")
    assert "https://example.com/new" in attempt.detail


def test_credentials_and_extra_headers_go_out(clock):
    with receiving(204) as receiver:
        factories.delivery(receiver.url)
        Endpoint.objects.update(authorization="Bearer secret", headers={"X-Team": "crm"})
        drain(clock)

    [request] = receiver.requests
    assert request.headers["authorization"] == "Bearer secret"
    assert request.headers["x-team"] == "crm"


def test_a_paused_subscription_is_not_sent_to(clock):
    with receiving(204) as receiver:
        delivery = factories.delivery(receiver.url)
        # Paused while a worker is about to send: the row says due, the subscription says no.
        delivery.subscription.pause()
        drain(clock)
        delivery.refresh_from_db()
        assert (delivery.status, delivery.due_at) == ("waiting", None)
        delivery.subscription.resume()
        clock.move(seconds=5)
        drain(clock)

    delivery.refresh_from_db()
    assert delivery.status == "succeeded"
    assert len(receiver.requests) == 1


def test_a_poison_row_does_not_harm_its_neighbours(clock):
    with receiving(204) as receiver:
        good = factories.delivery(receiver.url, event_types=["order.paid"])
        bad = factories.subscription(url=receiver.url, event_types=["user.*"])
        bad.signing_keys.update(secret="x")
        [poison] = factories.record("user.joined")
        worse = factories.subscription(url=receiver.url, event_types=["order.item.*"])
        Endpoint.objects.filter(subscription=worse).update(headers={"X": "a\nb"})
        [header] = factories.record("order.item.added")
        drain(clock)

    for one in (good, poison, header):
        one.refresh_from_db()
    assert good.status == "succeeded"
    assert (poison.subscription, poison.reason) == (bad, "internal")
    assert (header.status, header.reason) == ("waiting", "blocked")


def test_ids_that_are_not_due_are_left_alone(clock):
    with receiving(204) as receiver:
        delivery = factories.delivery(receiver.url)
        Delivery.objects.update(due_at=clock() + timedelta(minutes=1))
        drained = drain(clock, [delivery.pk])

    assert drained.attempts == 0
    assert receiver.requests == []


def test_many_deliveries_arrive_once_each(clock, monkeypatch):
    monkeypatch.setattr(dispatch, "DRAIN_SECONDS", 100.0)
    with receiving(204) as receiver:
        factories.subscription(url=receiver.url)
        for number in range(150):
            factories.record(data={"id": number})
        drained = drain(clock)

    assert drained.attempts == 150
    assert len(set(receiver.ids)) == len(receiver.ids) == 150
    assert Delivery.objects.succeeded().count() == 150


def test_one_slow_receiver_does_not_hold_up_the_others(clock, settings, monkeypatch):
    settings.WEBHOOKS_TIMEOUT_SECONDS = 50.0
    monkeypatch.setattr(dispatch, "DRAIN_SECONDS", 100.0)

    def others_arrived():
        until(lambda: len(fast.requests) == 40, seconds=40)

    with receiving(Answer(204, gate=others_arrived)) as slow, receiving(204) as fast:
        factories.subscription(url=slow.url, event_types=["user.*"])
        factories.subscription(url=fast.url, event_types=["order.*"])
        for number in range(8):
            factories.record("user.joined", {"id": number})
        for number in range(40):
            factories.record("order.paid", {"id": number})
        drain(clock)

    assert len(slow.requests) == 8
    first_answer_of_slow = min(request.answered_at for request in slow.requests)
    assert all(request.at < first_answer_of_slow for request in fast.requests)


def test_a_run_ends_in_time_and_says_that_more_is_due(clock, settings, monkeypatch):
    monkeypatch.setattr(claims, "BATCH_SIZE", 4)
    settings.WEBHOOKS_MAX_IN_FLIGHT_PER_ENDPOINT = 1
    with receiving(Answer(204, delay=0.1)) as receiver:
        # Each request takes half of the time.
        passed = SimpleNamespace(
            monotonic=lambda: time.monotonic() + dispatch.DRAIN_SECONDS / 2 * len(receiver.requests)
        )
        monkeypatch.setattr(dispatch, "time", passed)
        factories.subscription(url=receiver.url)
        for number in range(30):
            factories.record(data={"id": number})
        drained = drain(clock)

    assert drained.is_more_due
    assert 1 <= drained.attempts < 30
    assert Delivery.objects.succeeded().count() == drained.attempts

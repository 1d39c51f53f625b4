"""Runs: how one ends, in time or by a fault, and what it says."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.db import OperationalError

from django_webhooks.models import Delivery
from django_webhooks.sending import attempts, claims, results, worker
from django_webhooks.sending.health_checks import recovery
from django_webhooks.sending.worker import dispatch
from tests import factories
from tests.factories import Clock
from tests.receivers import Answer, receiving

pytestmark = pytest.mark.django_db


@pytest.fixture
def clock():
    return Clock()


def test_the_earliest_of_all_retries_is_told(clock):
    with (
        receiving(Answer(503, {"Retry-After": "300"})) as quick,
        receiving(Answer(503, {"Retry-After": "100"}, delay=0.4)) as slow,
    ):
        factories.subscription(url=quick.url, event_types=["order.*"])
        factories.subscription(url=slow.url, event_types=["user.*"])
        factories.record("order.paid")
        factories.record("user.joined")
        drained = worker.drain(clock=clock)

    assert drained.attempts == 2
    assert drained.next_in == pytest.approx(100, abs=2)


def test_a_run_that_ends_with_nothing_queued_has_nothing_to_give_back(clock, monkeypatch):
    with receiving(Answer(204, delay=0.3)) as receiver:
        # The time is over as soon as the request has arrived.
        passed = SimpleNamespace(
            monotonic=lambda: time.monotonic() + dispatch.DRAIN_SECONDS * len(receiver.requests)
        )
        monkeypatch.setattr(dispatch, "time", passed)
        delivery = factories.delivery(receiver.url)
        drained = worker.drain(clock=clock)

    delivery.refresh_from_db()
    assert (drained.attempts, drained.is_more_due, delivery.status) == (1, False, "succeeded")


def test_an_attempt_that_would_outlast_its_lease_is_given_back(clock, monkeypatch):
    monkeypatch.setattr(dispatch, "DRAIN_SECONDS", 0.1)
    with receiving(204) as receiver:
        delivery = factories.delivery(receiver.url)
        leasing = threading.current_thread()
        late = clock() + timedelta(seconds=50)

        drained = worker.drain(
            clock=lambda: clock() if threading.current_thread() is leasing else late
        )

    delivery.refresh_from_db()
    assert (drained.attempts, receiver.requests) == (0, [])
    assert drained.is_more_due
    assert (delivery.lease_token, delivery.due_at) == (None, min(delivery.created_at, clock()))


def test_a_database_that_fails_ends_the_run_and_its_threads(clock, monkeypatch):
    before = set(threading.enumerate())

    def fail(**kwargs):
        raise OperationalError("gone")

    with receiving(Answer(204, delay=0.2)) as receiver:
        factories.delivery(receiver.url)
        monkeypatch.setattr(results, "record", lambda *args, **kwargs: fail())
        with pytest.raises(OperationalError):
            worker.drain(clock=clock)
        ends = time.monotonic() + 60
        while _senders(before) and time.monotonic() < ends:
            time.sleep(0.01)

    assert _senders(before) == []
    assert Delivery.objects.get().lease_token is not None


def test_results_are_recorded_although_the_database_failed_meanwhile(clock, monkeypatch):
    """The database fails for a moment while a request is under way: it is not sent again."""
    real, calls = claims.take, []

    def take(**options):
        calls.append(options)
        if len(calls) == 2:
            raise OperationalError("a connection that broke")
        return real(**options)

    with receiving(Answer(204, delay=0.3)) as receiver:
        delivery = factories.delivery(receiver.url)
        monkeypatch.setattr(claims, "take", take)
        with pytest.raises(OperationalError, match="broke"):
            worker.drain([delivery.pk], clock=clock)

    delivery.refresh_from_db()
    assert (delivery.status, len(receiver.requests)) == ("succeeded", 1)


def test_a_result_that_the_database_did_not_take_is_offered_once_more(clock, monkeypatch):
    real, calls = results.record, []

    def record(results, **options):
        calls.append(len(results))
        if len(calls) == 1:
            raise OperationalError("gone")
        return real(results, **options)

    with receiving(204) as receiver:
        delivery = factories.delivery(receiver.url)
        monkeypatch.setattr(results, "record", record)
        with pytest.raises(OperationalError):
            worker.drain(clock=clock)

    delivery.refresh_from_db()
    assert (delivery.status, calls) == ("succeeded", [1, 1])


def test_what_was_not_begun_when_the_database_failed_is_due_again(clock, monkeypatch, settings):
    settings.WEBHOOKS_MAX_IN_FLIGHT = settings.WEBHOOKS_MAX_IN_FLIGHT_PER_ENDPOINT = 1
    real = dispatch._Run._has_room
    calls = []

    def has_room(run):
        calls.append(run)
        # One has begun, whenever its thread has its turn.
        if len(calls) >= 2 and receiver.requests:
            raise OperationalError("a connection that broke")
        return real(run)

    with receiving(Answer(204, delay=0.3)) as receiver:
        factories.subscription(url=receiver.url)
        for number in range(3):
            factories.record(data={"id": number})
        monkeypatch.setattr(dispatch._Run, "_has_room", has_room)
        with pytest.raises(OperationalError):
            worker.drain(clock=clock)

    assert Delivery.objects.succeeded().count() == len(receiver.requests) >= 1
    waiting = Delivery.objects.waiting()
    assert waiting.count() == 3 - len(receiver.requests)
    assert not waiting.filter(lease_token__isnull=False).exists()


def test_settings_that_make_no_sense_end_the_run_rather_than_hanging_it(
    clock, settings, monkeypatch
):
    # A run that lasts looks for endpoints that fell, which fails with these settings as well.
    monkeypatch.setattr(recovery, "EVERY", 3600.0)
    delivery = factories.delivery()
    settings.WEBHOOKS_TIMEOUT_SECONDS = "15"

    worker.drain(clock=clock)

    delivery.refresh_from_db()
    assert (delivery.status, delivery.reason) == ("waiting", "internal")


def test_ids_that_are_no_longer_due_do_not_hide_what_is(clock):
    with receiving(204) as receiver:
        factories.subscription(url=receiver.url)
        [waiting], [due] = factories.record(), factories.record()
        Delivery.objects.filter(pk=waiting.pk).update(due_at=clock() + timedelta(hours=1))
        drained = worker.drain([waiting.pk], clock=clock)

    due.refresh_from_db()
    assert (drained.attempts, due.status) == (1, "succeeded")


def _senders(before):
    new = set(threading.enumerate()) - before
    return [one for one in new if one.name == "webhooks-sender"]


def test_a_run_ends_when_nothing_is_due_though_it_passed_over_what_it_had_enough_of(
    clock, monkeypatch
):
    """All that was queued is sent while the run looks for work of others, and finds none."""
    monkeypatch.setattr(dispatch, "DRAIN_SECONDS", 100.0)
    monkeypatch.setattr(claims, "BATCH_SIZE", 20)
    make, take, made = attempts.make, claims.take, []
    has_looked = threading.Event()

    def make_then(job, *, now):
        assert has_looked.wait(60)
        result = make(job, now=now)
        made.append(job)
        return result

    def take_while_all_is_sent(**options):
        lease = take(**options)
        if options["except_subscriptions"] and not has_looked.is_set():
            has_looked.set()
            ends = time.monotonic() + 60
            while len(made) < 20 and time.monotonic() < ends:
                time.sleep(0.01)
        return lease

    monkeypatch.setattr(attempts, "make", make_then)
    monkeypatch.setattr(claims, "take", take_while_all_is_sent)
    with receiving(204) as receiver:
        factories.subscription(url=receiver.url)
        for _ in range(60):
            factories.record()
        drained = worker.drain(clock=clock)

    assert drained.attempts == 60


def test_a_look_that_reads_past_a_long_backlog_in_vain_is_seldom(clock, monkeypatch):
    monkeypatch.setattr(dispatch, "DRAIN_SECONDS", 100.0)
    take, looks = claims.take, []

    def slowly(**options):
        if options["except_subscriptions"]:
            looks.append(time.monotonic())
            time.sleep(0.1)
        return take(**options)

    monkeypatch.setattr(claims, "take", slowly)
    with receiving(Answer(204, delay=0.1)) as receiver:
        factories.subscription(url=receiver.url)
        for _ in range(300):
            factories.record()
        began = time.monotonic()
        drained = worker.drain(clock=clock)
        took = time.monotonic() - began

    assert drained.attempts == 300
    assert 1 <= len(looks) <= took / (0.1 * dispatch.REST) + 1

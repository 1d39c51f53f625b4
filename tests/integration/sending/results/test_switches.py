"""The active endpoint of a subscription, when people change endpoints; and what is told of it."""

from __future__ import annotations

import contextlib
import ssl
import threading
from datetime import timedelta

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connections, transaction

from django_webhooks import signals, times
from django_webhooks.models import (
    Attempt,
    Delivery,
    Endpoint,
    EndpointHealth,
    Probe,
    Subscription,
    Switch,
)
from django_webhooks.models.notification import Notification
from django_webhooks.policies.health import Thresholds
from django_webhooks.sending import claims, http, worker
from django_webhooks.sending import results as recorder
from django_webhooks.sending.attempts import Job, Result
from django_webhooks.sending.claims import routing
from django_webhooks.sending.health_checks import auto_disable
from django_webhooks.sending.http import NoAnswer, pools, tls
from django_webhooks.sending.notifications import notifications, texts
from django_webhooks.sending.results import health
from tests import certificates, factories
from tests.factories import Clock
from tests.receivers import Answer, receiving, speaking

pytestmark = pytest.mark.django_db
URL = "http://127.0.0.1:9/"


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def pair():
    subscription = factories.subscription(url=URL)
    Endpoint.objects.create(subscription=subscription, url=f"{URL}b", position=1)
    return subscription


def active():
    return EndpointHealth.objects.get(is_active=True).endpoint.position


def fall(endpoint, *, state="unhealthy", **fields):
    now = times.now()
    values = {
        "state": state,
        "failing_since": now,
        "since": now,
        "reason": "timeout",
        "hold_seconds": 30,
    }
    EndpointHealth.objects.filter(endpoint=endpoint).update(**{**values, **fields})


class TestByHand:
    def test_the_first_endpoint_is_active_and_that_is_no_switch(self, pair):
        assert active() == 0
        assert not Switch.objects.exists()

    def test_an_endpoint_that_is_deleted_is_replaced(self, pair):
        pair.endpoints.get(position=0).delete()

        assert active() == 1
        assert not Endpoint.objects.filter(position=0).exists()

    def test_an_endpoint_that_is_disabled_is_replaced_until_it_is_enabled(self, pair):
        first = pair.endpoints.get(position=0)
        first.disable("maintenance")
        assert active() == 1
        first.enable()
        assert active() == 0

        rows = Switch.objects.order_by("pk").values_list("cause", "reason", "note")
        assert list(rows) == [
            ("by_hand", "endpoint_disabled", "maintenance"),
            ("by_hand", "endpoint_enabled", ""),
        ]
        assert str(Switch.objects.order_by("pk").first()).startswith("By hand 20")

    def test_an_endpoint_whose_url_is_mended_counts_as_healthy(self, pair):
        first = pair.endpoints.get(position=0)
        fall(first, is_active=None)
        first.position = 0
        first.save()
        assert EndpointHealth.objects.get(endpoint=first).state == "unhealthy"

        first.url = "http://127.0.0.1:9/mended"
        first.save()

        assert EndpointHealth.objects.get(endpoint=first).state == "healthy"
        assert active() == 0

    def test_an_endpoint_that_is_moved_to_the_front_takes_the_traffic(self, pair):
        first, second = pair.endpoints.order_by("position")
        first.position = 2
        first.save()

        assert EndpointHealth.objects.get(is_active=True).endpoint == second

    def test_one_endpoint_is_pinned_at_a_time(self, pair):
        first, second = pair.endpoints.order_by("position")
        first.pin("one", by="anna")
        second.pin("two", by="ben")

        assert [one.pin_reason for one in Endpoint.objects.filter(pinned_at__isnull=False)] == [
            "two"
        ]
        assert active() == 1

    def test_a_disabled_endpoint_cannot_be_pinned(self, pair):
        first = pair.endpoints.get(position=0)
        first.disable("gone")

        with pytest.raises(ValueError, match="enable it before"):
            first.pin("x", by="anna")

    def test_another_mode_is_heeded_at_once(self, pair):
        fall(pair.endpoints.get(position=0), is_active=None)
        EndpointHealth.objects.filter(endpoint__position=1).update(is_active=True)
        pair.failover = "each"
        pair.save()

        assert active() == 0

    def test_a_subscription_that_stays_is_switched_back_on_request(self, pair):
        pair.failback = "stay"
        pair.save()
        second = pair.endpoints.get(position=1)
        second.pin("drill", by="anna")
        second.unpin(by="anna")
        assert active() == 1

        assert pair.fail_back("enough", by="anna")
        assert active() == 0
        assert not pair.fail_back(by="anna")
        pair.refresh_from_db()
        assert pair.failback == "stay"

    def test_the_same_url_twice_is_refused(self, pair):
        other = Endpoint(subscription=pair, url=URL, position=2)

        with pytest.raises(ValidationError) as error:
            other.full_clean()
        assert "a backup helps only" in error.value.message_dict["url"][0]

    def test_a_health_url_is_asked_for(self, pair):
        with pytest.raises(ValidationError) as error:
            Endpoint(subscription=pair, url=f"{URL}c", position=2, probe="http").full_clean()
        assert list(error.value.error_dict) == ["health_url"]


class TestRows:
    def test_two_active_endpoints_are_impossible(self, pair):
        with pytest.raises(IntegrityError), transaction.atomic():
            EndpointHealth.objects.filter(endpoint__position=1).update(is_active=True)

    def test_thresholds_are_those_of_the_subscription_or_of_the_settings(self, settings):
        settings.WEBHOOKS_HEALTH_RISE = 7
        made = factories.subscription(health_fall=9, health_hold_seconds=1.5)

        assert made.health_thresholds == Thresholds(fall=9, rise=7, hold=1.5, hold_cap=90.0)
        made.health_hold_cap_seconds = 2.0
        assert made.health_thresholds.hold_cap == 2.0

    @pytest.mark.parametrize(
        "fields", [{"health_fall": 0}, {"health_hold_seconds": 0}, {"health_window_share": 1.5}]
    )
    def test_senseless_thresholds_are_refused(self, fields):
        with pytest.raises(ValidationError):
            Subscription(name="x", **fields).full_clean()
        with pytest.raises(IntegrityError), transaction.atomic():
            factories.subscription(**fields)

    def test_they_say_what_they_are(self, pair):
        candidate = EndpointHealth.objects.get(endpoint__position=0)
        assert str(candidate) == "primary: Healthy"
        assert str(Probe(kind="connect", succeeded=True)) == "Connect: ok"
        assert str(Probe(kind="http", reason="timeout")) == "GET of a health URL: timeout"

    def test_releasing_some_takes_the_oldest(self):
        factories.subscription()
        for number in range(5):
            factories.record(data={"id": number})
        Delivery.objects.update(due_at=None)

        assert Delivery.objects.release(limit=2) == 2
        oldest = list(Delivery.objects.order_by("pk")[:2])
        assert list(Delivery.objects.filter(due_at__isnull=False).order_by("pk")) == oldest

    @pytest.mark.parametrize(
        ("refused", "expected"),
        [
            pytest.param(True, ["http_404", "http_503", "redirect", "timeout"], id="refused too"),
            pytest.param(False, ["http_503", "timeout"], id="silence and 5xx"),
        ],
    )
    def test_only_what_an_endpoint_made_wait_is_brought_forward(self, clock, refused, expected):
        factories.subscription()
        later = clock() + timedelta(hours=1)
        endpoint = Endpoint.objects.get()
        waits = {"due_at": later, "attempts_made": 1}
        for fields in (
            {**waits, "reason": "timeout"},
            {**waits, "reason": "http_503"},
            {**waits, "reason": "http_429"},
            {**waits, "reason": "http_404"},
            {**waits, "reason": "redirect"},
            {**waits, "reason": "internal"},
            {**waits, "reason": "timeout", "endpoint": endpoint},
            {"due_at": later, "reason": ""},
            {**waits, "reason": "timeout", "lease_token": "018f3c7e000070008000000000000000"},
        ):
            [made] = factories.record()
            Delivery.objects.filter(pk=made.pk).update(**fields)

        assert Delivery.objects.bring_forward(now=clock(), refused=refused) == len(expected)
        brought = Delivery.objects.filter(due_at=clock()).values_list("reason", flat=True)
        assert sorted(brought) == expected


class TestRaces:
    """Several workers with the same evidence."""

    def result(self, delivery, clock, endpoint):
        return Result(
            job=Job(
                delivery=delivery,
                subscription=delivery.subscription,
                endpoint=endpoint,
                policy=delivery.subscription.retry_policy,
            ),
            started_at=clock(),
            duration=0.1,
            response=NoAnswer(reason="timeout"),
            outcome=health_outcome(),
        )

    @pytest.mark.django_db(transaction=True)
    def test_two_hundred_failures_recorded_by_four_are_one_switch(self):
        subscription = factories.subscription()
        Endpoint.objects.create(subscription=subscription, url=f"{URL}b", position=1)
        for number in range(200):
            factories.record(data={"id": number})
        clock = Clock()
        lease = claims.take(now=clock(), limit=200, using="default")
        first = subscription.endpoints.get(position=0)
        results = [self.result(one, clock, first) for one in lease.deliveries]

        def record(part):
            for start in range(part, 200, 40):
                recorder.record(results[start : start + 10], now=clock(), using="default")
            connections.close_all()

        threads = [threading.Thread(target=record, args=(part * 10,)) for part in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert Attempt.objects.count() == 200
        assert [one.cause for one in Switch.objects.all()] == ["failover"]
        assert active() == 1
        assert Delivery.objects.filter(due_at__lte=clock()).count() == 200

    def test_each_notice_is_told_by_one_of_them(self, pair, clock):
        fall(pair.endpoints.get(position=0))
        pair.endpoints.get(position=1).pin("drill", by="anna")
        candidates = list(notifications._unnotified_endpoints("default").select_related("endpoint"))
        switch = Switch.objects.get()
        listener = factories.subscription(event_types=["webhooks.*"], url="http://127.0.0.1:8/")
        stage = Subscription.objects.get(pk=pair.pk)
        tell = [
            lambda: notifications._notice_endpoint(candidates[0], now=clock(), using="default"),
            lambda: notifications._notice_switch(switch, now=clock(), using="default"),
        ]

        for _ in range(2):
            for one in tell:
                one()
        found = list(Notification.objects.order_by("pk"))
        assert [one.kind for one in found] == ["endpoint.unhealthy", "subscription.switched"]
        for _ in range(2):
            for one in found:
                notifications._emit(one, now=clock(), using="default")
        assert listener.deliveries.count() == 2
        for _ in range(2):
            auto_disable._reach(stage, 1, since=clock(), using="default")
        assert listener.deliveries.count() == 3

    def test_each_mail_is_sent_by_one_of_them(self, pair, clock, settings, mailoutbox):
        settings.WEBHOOKS_NOTIFY = ["ops@example.com"]
        fall(pair.endpoints.get(position=0))
        told = []

        def tell(*arguments):
            told.append(notifications.tell(now=clock()))

        # A second one begins while the first one sends.
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(texts, "_link", tell)
            notifications.tell(now=clock())

        assert set(told) == {0}
        assert len(mailoutbox) == 1

    def test_a_subscription_is_disabled_by_one_of_them(self, pair, clock):
        told = [auto_disable._reach(pair, 3, since=clock(), using="default") for _ in range(2)]

        assert told == [1, 0]

    def test_one_that_was_resumed_meanwhile_is_left_alone(self, pair, clock):
        pair.disable("x")

        assert auto_disable._reach(pair, 3, since=clock(), using="default") == 0

    def test_an_endpoint_that_is_deleted_before_the_evidence_is_written(self, clock, monkeypatch):
        subscription = factories.subscription()
        factories.record()
        [delivery] = claims.take(now=clock(), limit=1, using="default").deliveries
        result = self.result(delivery, clock, subscription.endpoints.get())
        health_update = health.begin([result], now=clock(), using="default")
        health_update.candidates[subscription.pk] = []

        health_update.finish()

        assert not Switch.objects.exists()

    def test_a_trial_that_was_not_begun_is_left_to_another_delivery(self, clock):
        with receiving(204) as receiver:
            factories.subscription(url=receiver.url, timeout_seconds=10)
            factories.record()
            fall(Endpoint.objects.get(), state="trial", is_active=None)
            calls = iter([0, 0, 0, 55])
            real = clock.now

            def late():
                return real + timedelta(seconds=next(calls, 55))

            worker.drain(clock=late)

        # Given back, taken again with a lease that is long enough, and tried.
        assert len(receiver.requests) == 1
        assert Attempt.objects.get().outcome == "succeeded"
        assert EndpointHealth.objects.get().state == "healthy"


class TestRoutes:
    def test_in_mode_each_without_an_endpoint_there_is_none(self):
        subscription = factories.subscription(url=None, failover="each")
        [delivery] = factories.record()
        [loaded] = routing.refresh({subscription.pk}, using="default").values()

        assert routing.of(loaded, delivery) == routing.Route(is_own=True)

    def test_a_backup_whose_primary_was_passed_over_says_so(self, pair):
        pair.failback = "stay"
        pair.save()
        second = pair.endpoints.get(position=1)
        second.pin("drill", by="anna")
        second.unpin(by="anna")
        [delivery] = factories.record()
        [loaded] = routing.refresh({pair.pk}, using="default").values()

        assert routing.of(loaded, delivery).why == "healthy"


@pytest.mark.django_db(transaction=True)
def test_recovery_is_told_and_logged(caplog):
    with receiving(Answer(204)) as receiver:
        factories.subscription(url=receiver.url)
        factories.record()
        fall(Endpoint.objects.get(), state="trial", is_active=None)
        seen = []

        def recovered(*, endpoint, **kwargs):
            seen.append(endpoint.position)

        signals.endpoint_recovered.connect(recovered)
        try:
            with caplog.at_level("INFO"):
                worker.drain(clock=Clock())
        finally:
            signals.endpoint_recovered.disconnect(recovered)

    assert seen == [0]
    assert any("is healthy again" in line.getMessage() for line in caplog.records)


def test_a_probe_by_handshake_hangs_up(tmp_path, monkeypatch):
    made = certificates.make(tmp_path, names=["localhost"])
    monkeypatch.setattr(tls.certifi, "where", lambda: str(made.certificate))
    pools.start_afresh()
    ended = threading.Event()

    def speak(connection: ssl.SSLSocket) -> None:
        # Its end, with or without a goodbye.
        with contextlib.suppress(OSError):
            assert connection.recv(1) == b""
        ended.set()

    try:
        with speaking(speak, tls=made.server()) as server:
            port = server.rpartition(":")[2]
            assert http.connect(f"https://localhost:{port}/", timeout=60) is None
            assert ended.wait(60)
    finally:
        pools.start_afresh()


def health_outcome():
    from django_webhooks.policies.outcome import of_failure

    return of_failure("timeout")


def test_a_trial_is_claimed_once_until_it_ends(clock):
    factories.subscription()
    endpoint = Endpoint.objects.get()
    fall(endpoint, state="trial", is_active=None)

    def claim():
        until = clock() + timedelta(seconds=60)
        return routing.claim_trial(endpoint, now=clock(), until=until, using="default")

    assert [claim(), claim()] == [True, False]
    clock.move(seconds=61)
    assert [claim(), claim()] == [True, False]
    routing.end_trial(endpoint, using="default")
    assert claim()
    clock.move(hours=-1)
    assert claim()
    fall(endpoint, is_active=None)
    assert not claim()

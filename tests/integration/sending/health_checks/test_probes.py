"""Probes: what they ask, whom, how often, and what follows; time is passed in."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from datetime import timedelta

import pytest
from django.db import connections

from django_webhooks import signing, tasks, times
from django_webhooks.models import Delivery, Endpoint, EndpointHealth, Probe, Subscription, Switch
from django_webhooks.sending import health_checks, http, maintenance, worker
from django_webhooks.sending.health_checks import probes
from django_webhooks.sending.maintenance import pruning
from tests import factories
from tests.factories import Clock
from tests.receivers import Answer, receiving, speaking

pytestmark = pytest.mark.django_db
DEAD = "http://127.0.0.1:9/hook"


@pytest.fixture
def clock():
    return Clock()


def check(clock, **options):
    return health_checks.check_all(clock=clock, **options)


def hang(connection):
    """Say nothing until the sender leaves."""
    while connection.recv(65_536):
        pass


def endpoint(url, **fields):
    subscription = factories.subscription(url=None)
    return Endpoint.objects.create(subscription=subscription, url=url, **fields)


class TestKinds:
    def test_connect_succeeds_where_something_listens(self, clock):
        with receiving() as receiver:
            endpoint(receiver.url)
            assert check(clock) == 1

        probe = Probe.objects.get()
        assert (probe.kind, probe.succeeded, probe.reason) == ("connect", True, "")
        assert receiver.requests == []

    def test_connect_fails_where_nothing_listens(self, clock):
        endpoint(DEAD)
        check(clock)

        probe = Probe.objects.get()
        assert (probe.succeeded, probe.reason) == (False, "connection")
        assert "refused" in probe.detail

    def test_connect_shakes_hands_where_the_url_is_https(self, clock, settings):
        with receiving() as plain:
            endpoint(plain.url.replace("http:", "https:"))
            check(clock)
        # A probe has no longer than an attempt.
        settings.WEBHOOKS_TIMEOUT_SECONDS = 0.3
        with speaking(hang) as silent:
            Endpoint.objects.update(url=f"https://{silent}/")
            clock.move(minutes=2)
            check(clock)

        assert [one.reason for one in Probe.objects.order_by("pk")] == ["tls", "timeout"]

    def test_a_url_that_may_not_be_sent_to_is_not_probed(self, clock, settings):
        with receiving() as receiver:
            endpoint(receiver.url)
            settings.WEBHOOKS_REQUIRE_HTTPS = True
            check(clock)

        assert Probe.objects.get().reason == "blocked"
        assert receiver.connections == 0

    @pytest.mark.parametrize(
        ("status", "reason"), [(200, ""), (204, ""), (302, "http_302"), (503, "http_503")]
    )
    def test_http_gets_the_health_url(self, clock, status, reason):
        with receiving() as receiver:
            receiver.health = status
            endpoint(DEAD, probe="http", health_url=receiver.url, authorization="Bearer x")
            check(clock)

        probe = Probe.objects.get()
        assert (probe.status_code, probe.reason) == (status, reason)

    def test_ping_is_a_signed_event_that_is_not_recorded(self, clock):
        with receiving(Answer(204), Answer(500)) as receiver:
            endpoint(receiver.url, probe="ping", headers={"x-tenant": "7"})
            check(clock)
            clock.move(minutes=2)
            check(clock)

        first, second = receiver.requests
        body = json.loads(first.body)
        assert (body["type"], body["data"]) == ("webhook.ping", {})
        assert first.headers["x-tenant"] == "7"
        assert first.headers["webhook-id"] != second.headers["webhook-id"]
        signing.verify(
            secrets=[factories.SECRET],
            headers=second.headers,
            body=second.body,
            now=clock().timestamp(),
        )
        assert [one.reason for one in Probe.objects.order_by("pk")] == ["", "http_500"]
        assert Delivery.objects.count() == 0

    def test_none_is_tried_with_a_delivery_when_its_hold_is_over(self, clock):
        with receiving(500) as receiver:
            endpoint(receiver.url, probe="none")
            for number in range(3):
                factories.record(data={"id": number})
            worker.drain(clock=clock)
            receiver.answers = [Answer(204)]
            clock.move(seconds=29)
            check(clock)
            assert EndpointHealth.objects.get().state == "unhealthy"
            clock.move(seconds=12)
            Delivery.objects.update(due_at=None)
            check(clock)
            assert EndpointHealth.objects.get().state == "trial"
            clock.move(seconds=1)
            worker.drain(clock=clock)

        assert Delivery.objects.succeeded().count() == 3
        assert Probe.objects.count() == 0

    def test_our_own_fault_is_no_evidence(self, clock, monkeypatch):
        def fail(*args, **kwargs):
            raise RuntimeError("a bug")

        endpoint(DEAD)
        monkeypatch.setattr(http, "connect", fail)
        for _ in range(5):
            check(clock)
            clock.move(minutes=2)

        assert EndpointHealth.objects.get().state == "healthy"
        assert {one.reason for one in Probe.objects.all()} == {"internal"}
        assert "RuntimeError" in Probe.objects.first().detail

    @pytest.mark.parametrize(
        ("status", "state"),
        [(429, "healthy"), (404, "unhealthy"), (410, "unhealthy"), (503, "unhealthy")],
    )
    def test_load_is_no_evidence(self, clock, status, state):
        """Only the answer to a delivery disables an endpoint."""
        with receiving(status) as receiver:
            endpoint(receiver.url, probe="ping")
            for _ in range(5):
                check(clock)
                clock.move(minutes=2)

        assert EndpointHealth.objects.get().state == state
        assert Endpoint.objects.get().is_usable


class TestWhoAndWhen:
    def test_an_idle_endpoint_is_probed_within_each_interval(self, clock):
        with receiving() as receiver:
            made = endpoint(receiver.url)
            check(clock)
            due = EndpointHealth.objects.get(pk=made.pk).probe_due_at
            assert check(clock) == 0
            assert timedelta(seconds=48) <= due - clock() <= timedelta(seconds=60)
            clock.move(seconds=60)
            assert check(clock) == 1

    def test_probes_are_spread(self, clock):
        with receiving() as receiver:
            for number in range(20):
                endpoint(f"{receiver.url}/{number}")
            check(clock)

        assert len(set(EndpointHealth.objects.values_list("probe_due_at", flat=True))) > 15

    def test_what_real_traffic_has_told_is_not_probed(self, clock):
        with receiving() as receiver:
            endpoint(receiver.url)
            factories.record()
            worker.drain(clock=clock)
            assert check(clock) == 0
            clock.move(seconds=61)
            assert check(clock) == 1

    def test_an_unhealthy_endpoint_is_probed_more_often(self, clock):
        endpoint(DEAD)
        for _ in range(3):
            check(clock)
            clock.move(minutes=2)

        candidate = EndpointHealth.objects.get()
        assert (candidate.state, candidate.reason) == ("unhealthy", "connection")
        assert candidate.probe_due_at <= clock() - timedelta(minutes=2) + timedelta(seconds=10)

    @pytest.mark.parametrize("state", ["disabled endpoint", "disabled subscription"])
    def test_what_is_disabled_is_not_probed(self, clock, state):
        made = endpoint(DEAD)
        if state == "disabled endpoint":
            made.disable("by hand")
        else:
            made.subscription.disable("by hand")

        assert check(clock) == 0

    def test_a_dead_backup_is_found_before_it_is_needed(self, clock):
        with receiving() as receiver:
            made = endpoint(receiver.url)
            Endpoint.objects.create(subscription=made.subscription, url=DEAD, position=1)
            for _ in range(3):
                check(clock)
                clock.move(minutes=2)

        assert EndpointHealth.objects.get(endpoint__position=1).state == "unhealthy"
        assert Switch.objects.count() == 0

    def test_a_primary_that_fails_its_probes_is_left(self, clock):
        with receiving() as receiver:
            made = endpoint(DEAD)
            Endpoint.objects.create(subscription=made.subscription, url=receiver.url, position=1)
            for _ in range(3):
                check(clock)
                clock.move(minutes=2)

        assert Switch.objects.get().cause == "failover"

    def test_some_are_probed_now_although_traffic_has_told_enough(self, clock):
        with receiving() as receiver:
            made = endpoint(receiver.url)
            endpoint(DEAD)
            factories.record()
            EndpointHealth.objects.update(
                succeeded_at=clock(), probe_due_at=clock() + timedelta(hours=1)
            )
            assert check(clock, endpoints=[made.pk]) == 1

        assert Probe.objects.get().endpoint == made

    def test_each_that_was_named_is_probed_once_however_many_they_are(self, clock, monkeypatch):
        monkeypatch.setattr(probes, "BATCH", 4)
        with receiving() as receiver:
            made = [endpoint(f"{receiver.url}/{number}") for number in range(10)]
            made[3].disable("by hand")
            for number, one in enumerate(reversed(made)):
                due = clock() + timedelta(minutes=number)
                EndpointHealth.objects.filter(pk=one.pk).update(probe_due_at=due)
            assert check(clock, endpoints=[one.pk for one in made]) == 9

        probed = Probe.objects.values_list("endpoint_id", flat=True)
        assert sorted(probed) == sorted(one.pk for one in made if one.is_usable)

    def test_one_endpoint_that_is_deleted_meanwhile_is_dropped(self, clock, monkeypatch):
        made = endpoint(DEAD)
        real = probes.record

        def record(*args, **kwargs):
            Endpoint.objects.all().delete()
            real(*args, **kwargs)

        monkeypatch.setattr(probes, "record", record)
        assert check(clock) == 1
        assert Probe.objects.count() == 0
        assert not Endpoint.objects.filter(pk=made.pk).exists()

    @pytest.mark.django_db(transaction=True)
    def test_two_beats_probe_each_endpoint_once(self):
        with receiving() as receiver:
            for number in range(40):
                endpoint(f"{receiver.url}/{number}")
            counts = []

            def run():
                counts.append(health_checks.check_all())
                connections.close_all()

            threads = [threading.Thread(target=run) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        assert sum(counts) == 40
        assert Probe.objects.count() == 40

    def test_a_beat_that_stopped_for_ten_minutes_leaves_nothing_wrong(self, clock):
        with receiving() as receiver:
            made = endpoint(receiver.url)
            check(clock)
            clock.move(minutes=10)
            factories.record()
            worker.drain(clock=clock)
            check(clock)

        assert EndpointHealth.objects.get(pk=made.pk).state == "healthy"
        assert Delivery.objects.get().status == "succeeded"

    def test_a_check_ends_although_something_always_hangs(self, settings, monkeypatch):
        monkeypatch.setattr(probes, "PROBE_SECONDS", 4.0)
        settings.WEBHOOKS_PROBE_INTERVAL_SECONDS = (
            settings.WEBHOOKS_PROBE_INTERVAL_UNHEALTHY_SECONDS
        ) = 0.05
        with receiving() as receiver, speaking(hang) as silent:
            for number in range(3):
                endpoint(f"{receiver.url}/{number}")
                endpoint(f"https://{silent}/{number}")
            began = time.monotonic()
            health_checks.check_all()
            took = time.monotonic() - began

        # Whoever waits until nothing is due waits for ever.
        assert 4 <= took < 60
        assert Probe.objects.filter(succeeded=True).count() > 3


class TestClocks:
    @pytest.mark.parametrize("hours", [-1, 1])
    def test_a_step_of_the_clock_freezes_no_endpoint(self, clock, hours):
        with receiving(500) as receiver:
            endpoint(receiver.url)
            for number in range(3):
                factories.record(data={"id": number})
            worker.drain(clock=clock)
            receiver.answers = [Answer(204)]
            receiver.requests.clear()
            check(clock)
            clock.move(hours=hours)
            for _ in range(8):
                clock.move(seconds=10)
                check(clock)
            assert EndpointHealth.objects.get().state == "trial"
            assert receiver.requests == []

    @pytest.mark.parametrize("hours", [-1, 1])
    def test_a_step_of_the_clock_during_a_trial_freezes_no_endpoint(self, clock, hours):
        with receiving(204) as receiver:
            endpoint(receiver.url)
            factories.record()
            EndpointHealth.objects.update(
                state="trial",
                failing_since=clock(),
                since=clock(),
                is_active=None,
                hold_seconds=30,
                trial_until=clock() + timedelta(minutes=1),
            )
            clock.move(hours=hours)
            Delivery.objects.update(due_at=clock())
            if hours > 0:
                clock.move(minutes=2)
            worker.drain(clock=clock)

        assert EndpointHealth.objects.get().state == "healthy"
        assert Delivery.objects.get().status == "succeeded"


class TestRepair:
    def test_rows_written_past_the_models_are_given_health(self, clock):
        subscription = factories.subscription(url=None)
        Endpoint.objects.bulk_create([Endpoint(subscription=subscription, url=DEAD)])
        [delivery] = factories.record()
        assert delivery.due_at is None

        assert probes.repair() == 1
        assert EndpointHealth.objects.get().is_active
        assert Delivery.objects.get().due_at is not None
        assert probes.repair() == 0

    def test_a_queryset_that_deletes_the_active_endpoint_leaves_the_next_one(self):
        made = endpoint(DEAD)
        Endpoint.objects.create(subscription=made.subscription, url=f"{DEAD}/2", position=1)
        Endpoint.objects.filter(pk=made.pk).delete()

        assert EndpointHealth.objects.get().is_active
        assert probes.repair() == 0

    def test_sql_that_deletes_the_active_endpoint_leaves_the_next_one_to_the_repair(self):
        made = endpoint(DEAD)
        Endpoint.objects.create(subscription=made.subscription, url=f"{DEAD}/2", position=1)
        for model in (EndpointHealth, Endpoint):
            model.objects.filter(pk=made.pk)._raw_delete(using="default")

        assert not EndpointHealth.objects.get().is_active
        assert probes.repair() == 1
        assert EndpointHealth.objects.get().is_active


class TestTheTask:
    def test_it_wakes_a_worker_for_what_it_released(self, monkeypatch):
        sent = []
        monkeypatch.setattr(tasks, "hint", lambda task: sent.append(()))
        with receiving() as receiver:
            endpoint(receiver.url)
            assert tasks.check_health() == 1
            assert sent == []
            factories.record()
            tasks.check_health()

        assert sent == [()]

    @pytest.mark.parametrize("batch", [1, 2, 500])
    def test_the_last_probes_are_kept(self, batch, monkeypatch):
        monkeypatch.setattr(pruning, "PROBES_KEPT", 3)
        monkeypatch.setattr(pruning, "PRUNE_BATCH", batch)
        made, other = endpoint(DEAD), endpoint(f"{DEAD}/2")
        now = times.now()
        oldest = Probe(endpoint=other, kind="connect", succeeded=True)
        rows = [Probe(endpoint=made, kind="connect", succeeded=True) for _ in range(5)]
        Probe.objects.bulk_create([oldest, *rows])

        maintenance.prune(now=now)

        assert Probe.objects.filter(endpoint=made).count() == 3
        latest = sorted(rows, key=lambda row: row.pk)[2:]
        assert set(Probe.objects.filter(endpoint=made)) == set(latest)
        assert Probe.objects.filter(endpoint=other).count() == 1

    def test_a_prune_that_is_out_of_time_leaves_them_to_the_next(self, monkeypatch):
        monkeypatch.setattr(pruning, "PROBES_KEPT", 3)
        made = endpoint(DEAD)
        Probe.objects.bulk_create(
            [Probe(endpoint=made, kind="connect", succeeded=True) for _ in range(5)]
        )

        maintenance.prune(max_seconds=0)
        assert Probe.objects.count() == 5

        maintenance.prune()
        assert Probe.objects.count() == 3


SERVERS = """
import socket, sys, threading, time
def listen(speak):
    listener = socket.create_server(("127.0.0.1", 0), backlog=2000)
    def accept():
        kept = []
        while True:
            kept.append(listener.accept()[0])
            if speak:
                kept.pop().close()
    threading.Thread(target=accept, daemon=True).start()
    return listener.getsockname()[1]
print(listen(True), listen(False), flush=True)
sys.stdin.read()
"""


def probe_all(count):
    """Probe all endpoints, and return how many seconds that took."""
    EndpointHealth.objects.update(probe_due_at=times.now() - timedelta(seconds=1))
    Probe.objects.all().delete()
    began, probed = time.monotonic(), 0
    while probed < count:  # A slow machine leaves some of them to the next beat.
        probed += (found := health_checks.check_all())
        assert found
    return time.monotonic() - began


@pytest.mark.django_db(transaction=True)
def test_a_thousand_endpoints_half_of_them_hanging_cost_one_time_out():
    with subprocess.Popen(
        [sys.executable, "-c", SERVERS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        well, hanging = server.stdout.readline().split()
        subscriptions = Subscription.objects.bulk_create(
            [Subscription(name=str(number)) for number in range(1000)]
        )
        made = [
            Endpoint(subscription=subscription, url=f"http://127.0.0.1:{well}/")
            for subscription in subscriptions
        ]
        Endpoint.objects.bulk_create(made)
        EndpointHealth.objects.bulk_create(
            [EndpointHealth(endpoint=one, subscription=one.subscription) for one in made]
        )

        all_well = probe_all(1000)
        half = Endpoint.objects.filter(pk__in=[one.pk for one in made[::2]])
        half.update(url=f"https://127.0.0.1:{hanging}/")
        half_hanging = probe_all(1000)
        server.stdin.close()

    assert Probe.objects.filter(succeeded=True).count() == 500
    assert set(Probe.objects.filter(succeeded=False).values_list("reason", flat=True)) == {
        "timeout"
    }
    print(f"\n1,000 probes: {all_well:.1f} s; 500 of them hanging for 5 s: {half_hanging:.1f} s")
    # What the machine takes for as many, and a few time-outs: one after the other they are 500.
    assert half_hanging <= 3 * all_well + 3 * 5


def test_what_fell_is_probed_soon_and_not_when_it_would_have_been(clock):
    with receiving(500) as receiver:
        endpoint(receiver.url)
        EndpointHealth.objects.update(probe_due_at=clock() + timedelta(minutes=1))
        for number in range(3):
            factories.record(data={"id": number})
        worker.drain(clock=clock)
        clock.move(seconds=1)

        assert check(clock) == 1

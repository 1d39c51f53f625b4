"""Metrics: what is counted, what the rows say, and who may read it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from datetime import timedelta
from urllib.request import urlopen
from uuid import uuid4

import pytest
import yaml
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.dispatch import Signal
from django.test.utils import CaptureQueriesContext
from prometheus_client import Counter
from prometheus_client.parser import text_string_to_metric_families

from django_webhooks import metrics, signals
from django_webhooks.inbox import signals as inbox_signals
from django_webhooks.inbox.models import InboxMessage
from django_webhooks.metrics import counting, exposition, rows
from django_webhooks.models import Attempt, Delivery, Endpoint, EndpointHealth, Subscription
from django_webhooks.models.figures.heartbeat import Heartbeat
from django_webhooks.policies.health import NO_ANSWER
from django_webhooks.sending import claims, worker
from django_webhooks.sending.database import DatabaseClock
from django_webhooks.sending.figures import statistics
from tests import factories
from tests.acceptance.harness import free_port
from tests.factories import Clock
from tests.receivers import receiving
from tests.unit.test_docs import page
from tests.unit.test_docs import rows as rows_of

pytestmark = pytest.mark.django_db
TOKEN = "a-token-of-more-than-16"
#: Reasons of attempts that are of our own making, and tasks that have a heartbeat.
REASONS = {"internal", "blocked"}
TASKS = {"sweep", "check_health", "roll_up"}


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def counted(settings):
    """Count, and return how much a sample has grown since: by its name and labels."""
    settings.WEBHOOKS_METRICS = True
    metrics.connect()
    before = samples()
    yield (
        lambda name, **labels: (
            samples().get(key(name, labels), 0.0) - before.get(key(name, labels), 0.0)
        )
    )
    counting.disconnect()


def key(name, labels):
    return f"django_webhooks_{name}", frozenset(labels.items())


def samples(text=None):
    text = text if text is not None else exposition.answer("")[0].decode()
    return {
        (one.name, frozenset(one.labels.items())): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }


def gauge(name, **labels):
    return samples()[key(name, labels)]


class TestCounters:
    """What is counted as it happens."""

    def test_an_arrival(self, counted, clock):
        with receiving(204) as receiver:
            factories.delivery(receiver.url)
            worker.drain(clock=clock)

        assert counted("attempts_total", outcome="succeeded", reason="") == 1
        assert counted("attempt_duration_seconds_count", outcome="succeeded") == 1
        assert 0 < counted("attempt_duration_seconds_sum", outcome="succeeded") < 5
        assert counted("deliveries_succeeded_total") == 1
        # The clock of the test is half a minute ahead.
        assert counted("event_to_arrival_seconds_sum") == pytest.approx(30, abs=2)
        assert counted("event_to_arrival_seconds_bucket", le="10.0") == 0
        assert counted("event_to_arrival_seconds_bucket", le="60.0") == 1

    def test_an_event_and_its_deliveries(self, counted, django_capture_on_commit_callbacks):
        factories.subscription()
        factories.subscription()
        with django_capture_on_commit_callbacks(execute=True):
            factories.record()

        assert (counted("events_total"), counted("deliveries_total")) == (1, 2)

    def test_a_retry_and_the_end(self, counted, clock):
        with receiving(503, 410) as receiver:
            factories.delivery(receiver.url, client_errors_final=True)
            worker.drain(clock=clock)
            clock.move(minutes=1)
            worker.drain(clock=clock)

        assert counted("attempts_total", outcome="retry", reason="http_503") == 1
        assert counted("attempts_total", outcome="final", reason="http_410") == 1
        assert counted("deliveries_given_up_total", reason="http_410") == 1
        assert counted("endpoint_changes_total", change="disabled") == 1
        assert counted("deliveries_succeeded_total") == 0

    def test_a_receiver_that_invents_statuses_makes_no_new_labels(self, counted, clock):
        with receiving(599, 598) as receiver:
            factories.delivery(receiver.url)
            worker.drain(clock=clock)
            clock.move(minutes=1)
            worker.drain(clock=clock)

        assert counted("attempts_total", outcome="retry", reason="http_other") == 2

    def test_an_endpoint_falls_and_its_backup_takes_over(
        self, counted, clock, django_capture_on_commit_callbacks
    ):
        with receiving(500) as receiver, receiving(204) as backup:
            made = factories.subscription(url=receiver.url)
            Endpoint.objects.create(subscription=made, url=backup.url, position=1)
            for number in range(3):
                factories.record(data={"id": number})
            with django_capture_on_commit_callbacks(execute=True):
                worker.drain(clock=clock)

        assert counted("endpoint_changes_total", change="unhealthy") == 1
        assert counted("switches_total", cause="failover") == 1

    def test_the_rest_of_our_signals(self, counted):
        made = factories.subscription()
        signals.endpoint_recovered.send_robust(sender=Endpoint, endpoint=made.endpoints.get())
        signals.subscription_disabled.send_robust(sender=None, subscription=made, reason="")
        inbox_signals.message_given_up.send_robust(sender=None, message=InboxMessage())

        assert counted("endpoint_changes_total", change="recovered") == 1
        assert counted("subscriptions_disabled_total") == 1
        assert counted("inbox_given_up_total") == 1

    def test_each_signal_is_counted(self):
        ours = {name for name, one in vars(signals).items() if isinstance(one, Signal)}
        heard = {
            name for name in ours for one, _ in counting.RECEIVERS if one is vars(signals)[name]
        }

        assert heard == ours

    def test_connecting_twice_counts_once(self, counted, clock):
        metrics.connect()
        with receiving(204) as receiver:
            factories.delivery(receiver.url)
            worker.drain(clock=clock)

        assert counted("deliveries_succeeded_total") == 1

    def test_no_subscription_has_a_label(self, counted, clock):
        with receiving(204) as receiver:
            delivery = factories.delivery(receiver.url)
            worker.drain(clock=clock)

        assert str(delivery.subscription_id) not in exposition.answer("")[0].decode()


class TestRows:
    """What the rows say at each scrape."""

    def test_deliveries(self, clock, settings):
        now = DatabaseClock(using="default")()
        made = factories.subscription()
        for number in range(5):
            factories.record(data={"id": number})
        keys = list(Delivery.objects.order_by("pk").values_list("pk", flat=True))
        Delivery.objects.filter(pk=keys[0]).update(due_at=now - timedelta(seconds=90))
        # Whose worker died: its lease has ended.
        Delivery.objects.filter(pk=keys[1]).update(
            due_at=now - timedelta(seconds=20), lease_token=uuid4()
        )
        Delivery.objects.filter(pk=keys[2]).update(due_at=None)
        Delivery.objects.filter(pk=keys[4]).update(due_at=now)
        Delivery.objects.filter(pk=keys[3]).update(due_at=now + timedelta(hours=2))
        claims.take(now=now, limit=9, using="default", ids=keys[4:])
        for hours in (1, 30):
            event = factories.event()
            Delivery.objects.create(
                event=event,
                subscription=made,
                status="given_up",
                finished_at=now - timedelta(hours=hours),
            )

        assert gauge("deliveries_due") == 2
        assert gauge("deliveries_held") == 1
        assert gauge("deliveries_leased") == 1
        assert gauge("deliveries_oldest_due_age_seconds") == pytest.approx(90, abs=10)
        assert gauge("deliveries_given_up_last_day") == 1
        assert gauge("database_up") == 1

    def test_nothing_waits(self):
        assert gauge("deliveries_oldest_due_age_seconds") == 0
        assert gauge("inbox_oldest_due_age_seconds") == 0
        assert gauge("subscriptions", status="disabled") == 0

    def test_subscriptions_endpoints_and_heartbeats(self):
        now = DatabaseClock(using="default")()
        first, second, third = (factories.subscription() for _ in range(3))
        Subscription.objects.filter(pk=third.pk).update(status="paused")
        EndpointHealth.objects.filter(subscription=first).update(
            state="unhealthy", failing_since=now, is_active=None
        )
        second.endpoints.update(disabled_at=now)
        Heartbeat.objects.create(name="sweep", at=now - timedelta(seconds=40))

        assert gauge("subscriptions", status="active") == 2
        assert gauge("subscriptions", status="paused") == 1
        assert gauge("endpoints", health="unhealthy") == 1
        assert gauge("endpoints", health="healthy") == 1
        assert gauge("endpoints", health="disabled") == 1
        assert gauge("heartbeat_age_seconds", task="sweep") == pytest.approx(40, abs=10)

    def test_the_inbox(self):
        now = DatabaseClock(using="default")()
        common = {"source": "view", "scheme": "standard", "body": b""}
        InboxMessage.objects.create(
            **common, message_id="1", digest="1", due_at=now - timedelta(seconds=70)
        )
        InboxMessage.objects.create(
            **common, message_id="2", digest="2", status="given_up", finished_at=now
        )

        assert gauge("inbox_due") == 1
        assert gauge("inbox_oldest_due_age_seconds") == pytest.approx(70, abs=10)
        assert gauge("inbox_given_up_last_day") == 1

    def test_much_costs_as_many_statements_as_little(self):
        with CaptureQueriesContext(connection) as little:
            exposition.answer("")
        for _ in range(5):
            factories.subscription()
        factories.record()
        with CaptureQueriesContext(connection) as much:
            exposition.answer("")

        # The report of what is not well is eleven of them; servers are asked for their clock, too.
        clocks = 0 if connection.vendor == "sqlite" else 2
        assert len(much) == len(little) <= 27 + clocks

    def test_counts_stop(self, monkeypatch):
        monkeypatch.setattr(statistics, "COUNTED", 2)
        factories.subscription()
        for number in range(3):
            factories.record(data={"id": number})
        Delivery.objects.update(due_at=DatabaseClock(using="default")() - timedelta(seconds=1))

        assert gauge("deliveries_due") == 2

    @pytest.mark.skipif(connection.vendor == "mysql", reason="its optimiser goes by the rows")
    def test_leases_are_counted_by_the_index_of_what_is_due(self):
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("SET LOCAL enable_seqscan = off")
        with CaptureQueriesContext(connection) as statements:
            rows._leased(Delivery.objects.all(), now=DatabaseClock(using="default")())
        [sql] = [one["sql"] for one in statements.captured_queries if "lease_token" in one["sql"]]
        explain = "EXPLAIN QUERY PLAN " if connection.vendor == "sqlite" else "EXPLAIN "
        with connection.cursor() as cursor:
            cursor.execute(explain + sql)
            plan = str(cursor.fetchall())

        assert "webhooks_delivery_due" in plan

    @pytest.mark.skipif(connection.vendor == "mysql", reason="it commits what it alters")
    def test_where_the_rows_cannot_be_read_the_counters_still_are(self, counted, caplog):
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE django_webhooks_heartbeat RENAME TO elsewhere")

        found = samples()

        assert found[key("database_up", {})] == 0
        assert key("deliveries_due", {}) not in found
        assert key("events_total", {}) in found
        assert "could not be read" in caplog.text


@pytest.mark.urls("django_webhooks.urls")
class TestTheView:
    """Who may read the metrics."""

    @pytest.fixture(autouse=True)
    def _on(self, settings, counted):
        settings.WEBHOOKS_METRICS_TOKEN = TOKEN

    def staff(self, **fields):
        user = User.objects.create(username="kim", is_staff=True, **fields)
        return user

    def bearer(self, client, token):
        return client.get("/metrics", headers={"Authorization": f"Bearer {token}"})

    def test_it_is_closed_by_default(self, client, settings):
        del settings.WEBHOOKS_METRICS

        assert self.bearer(client, TOKEN).status_code == 404

    def test_the_token_opens_it(self, client):
        answer = self.bearer(client, TOKEN)

        assert answer.status_code == 200
        assert answer["Content-Type"].startswith("text/plain")
        assert answer["Cache-Control"] == "no-store"
        assert samples(answer.content.decode())[key("database_up", {})] == 1

    def test_prometheus_may_ask_for_its_newer_format(self, client):
        accept = "application/openmetrics-text; version=1.0.0"
        headers = {"Authorization": f"Bearer {TOKEN}", "Accept": accept}
        answer = client.get("/metrics", headers=headers)

        assert answer["Content-Type"].startswith("application/openmetrics-text")
        assert answer.content.endswith(b"# EOF\n")

    @pytest.mark.parametrize("token", ["", "wrong", TOKEN[:-1], f"{TOKEN}x", "ünïcode"])
    def test_no_other_token_does(self, client, token):
        answer = self.bearer(client, token)

        assert (answer.status_code, answer["WWW-Authenticate"]) == (401, "Bearer")

    @pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", f"Basic {TOKEN}"])
    def test_without_a_token_in_the_settings_none_does(self, client, settings, header):
        del settings.WEBHOOKS_METRICS_TOKEN

        assert client.get("/metrics", headers={"Authorization": header}).status_code == 401

    def test_nobody_in_particular_may_not(self, client):
        assert client.get("/metrics").status_code == 401

    def test_staff_need_the_permission_to_see_deliveries(self, client):
        user = self.staff()
        client.force_login(user)
        assert client.get("/metrics").status_code == 401

        user.user_permissions.add(Permission.objects.get(codename="view_delivery"))
        assert client.get("/metrics").status_code == 200

    def test_staff_of_one_tenant_do_not_see_the_figures_of_all(self, client, settings):
        settings.WEBHOOKS_ADMIN_SCOPE = lambda request: []
        user = self.staff()
        user.user_permissions.add(Permission.objects.get(codename="view_delivery"))
        client.force_login(user)
        assert client.get("/metrics").status_code == 401

        User.objects.update(is_superuser=True)
        assert client.get("/metrics").status_code == 200

    def test_it_is_only_read(self, client):
        assert client.post("/metrics").status_code == 405


def test_other_programs_metrics_are_not_told(counted):
    other = Counter("shop_orders", "Orders.")
    other.inc()

    assert not [name for name, _ in samples() if "shop" in name]


def test_a_thread_tells_the_counters_and_the_rows_where_it_is_asked_to(counted, settings):
    for with_rows in (False, True):
        port = free_port()
        metrics.serve(port, rows=with_rows)
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
            found = samples(answer.read().decode())

        assert key("events_total", {}) in found
        assert (key("database_up", {}) in found) == with_rows


def python(code):
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


def test_by_default_nothing_is_imported_and_nothing_is_connected():
    told = python(
        """
        import sys
        import django
        django.setup()
        from django_webhooks import metrics, signals
        metrics.serve(1)
        print("prometheus_client" in sys.modules, len(signals.delivery_succeeded.receivers))
        """
    )

    assert told == "False 1"  # The one that logs.


def test_where_the_package_is_missing_a_check_says_so_and_nothing_fails():
    told = python(
        """
        import sys
        sys.modules["prometheus_client"] = None
        from django.conf import settings
        settings.WEBHOOKS_METRICS = True
        import django
        django.setup()
        from tests import celery
        from django.core.checks import run_checks
        from django_webhooks import metrics
        print(metrics.is_on(), [message.id for message in run_checks(tags=["webhooks"])])
        """
    )

    assert told == "False ['webhooks.W024']"


class TestTheDocumentation:
    """What docs/howto/watch.md says of metrics."""

    TEXT = page("howto/watch.md")

    @pytest.fixture
    def told(self, counted):
        """The families that a scrape tells: kinds and labels by name."""
        Heartbeat.objects.create(name="sweep")
        counting.ATTEMPTS.labels("outcome", "reason")
        for instrument in (
            counting.ATTEMPT_DURATION,
            counting.GIVEN_UP,
            counting.ENDPOINT_CHANGES,
            counting.SWITCHES,
            counting.READABILITY,
            counting.SITE,
        ):
            instrument.labels("label")
        text = exposition.answer("")[0].decode()
        return {
            f"{one.name}_total" if one.type == "counter" else one.name: (
                one.type,
                {name for sample in one.samples for name in sample.labels} - {"le"},
                {sample.name for sample in one.samples},
            )
            for one in text_string_to_metric_families(text)
            # When each counter began, which prometheus_client adds.
            if not one.name.endswith("_created")
        }

    def test_each_metric_is_there_with_its_kind_and_labels_and_no_other(self, told):
        documented = {
            f"{metrics.PREFIX}{row[0]}": (row[1], set(re.findall(r"`(\w+)`", f"`{row[2]}`")))
            for row in rows_of(self.TEXT)
            if row[1] in {"counter", "gauge", "histogram"}
        }

        assert documented == {name: (kind, labels) for name, (kind, labels, _) in told.items()}

    def test_alerts_name_metrics_labels_and_values_that_exist(self, told):
        blocks = re.findall(r"```yaml\n(.*?)```", self.TEXT, re.S)
        [group] = next(one for one in map(yaml.safe_load, blocks) if "groups" in one)["groups"]
        samples_told = {name: labels for _, labels, names in told.values() for name in names}

        assert len(group["rules"]) == len({rule["alert"] for rule in group["rules"]}) >= 8
        for rule in group["rules"]:
            assert set(rule) <= {"alert", "expr", "for", "annotations"}
            used = re.findall(r"(django_webhooks_\w+)(?:\{(.*?)\})?", rule["expr"])
            assert used, rule["alert"]
            assert rule["expr"].count("(") == rule["expr"].count(")")
            for name, matchers in used:
                assert name in samples_told, name
                assert set(re.findall(r"(\w+)[!=]~?=?\"", matchers)) <= samples_told[name]
        values = re.findall(r'\{\w+!?[=~]+"([\w|]+)"\}', str(group))
        known = {
            *Attempt.Outcome.values,
            *EndpointHealth.State.values,
            *NO_ANSWER,
            *REASONS,
            *TASKS,
        }
        assert {one for value in values for one in value.split("|")} <= known

    def test_figures_to_worry_about_exist(self, told):
        section = self.TEXT.partition("## What to look at")[2]
        used = {
            re.search(r"(\w+)(?:\{.*\})?`?$", row[0])[1]
            for row in rows_of(section)
            if row[0] not in {"figure"} and not set(row[0]) <= {"-"}
        }

        assert {f"{metrics.PREFIX}{name}" for name in used} <= set(told)

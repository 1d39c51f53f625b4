"""Roll-ups, statistics and the overview: what was counted, and what people see of it."""

from __future__ import annotations

import html
import json
import re
from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from django.core.management import call_command
from django.db import connection

from django_webhooks import tasks, times
from django_webhooks.fields import uuid7_at
from django_webhooks.models import Attempt, Delivery, EndpointHealth, Subscription
from django_webhooks.models.figures import heartbeat
from django_webhooks.models.figures.heartbeat import Heartbeat
from django_webhooks.models.figures.rollup import EVERYBODY, Rollup
from django_webhooks.policies import durations
from django_webhooks.sending.figures import rollups, statistics
from tests import factories, pages

pytestmark = pytest.mark.django_db
NOON = datetime(2026, 3, 5, 12, 2, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _any_type(settings):
    settings.WEBHOOKS_ALLOW_UNKNOWN_EVENT_TYPES = True
    heartbeat._said.clear()


def delivered(subscription, *, at, status="succeeded", seconds=1.0, ms=80, reason="", retries=0):
    """Make a delivery that was over at a moment, with its attempts."""
    event = factories.event(created_at=at - timedelta(seconds=seconds))
    delivery = Delivery.objects.create(
        event=event,
        subscription=subscription,
        status=status,
        reason=reason,
        created_at=at - timedelta(seconds=seconds),
        finished_at=at,
        attempts_made=retries + 1,
    )
    outcomes = ["retry"] * retries + ["succeeded" if status == "succeeded" else "final"]
    for number, outcome in enumerate(outcomes, 1):
        key = uuid7_at(at).int + (delivery.pk.int & 0xFFFF_FFFF) * 100 + number
        Attempt.objects.create(
            id=type(delivery.pk)(int=key),
            delivery=delivery,
            endpoint_host="a.example",
            number=number,
            started_at=at,
            duration_ms=ms,
            outcome=outcome,
            reason="http_503" if outcome == "retry" else reason,
        )
    return delivery


class TestDurations:
    @pytest.mark.parametrize("ms", [1, 7, 80, 950, 12_000, 3_600_000])
    def test_a_percentile_is_right_to_ten_per_cent(self, ms):
        import math

        key = math.floor(math.log(ms + 1) / math.log(durations.GROWTH))

        assert durations.percentile({str(key): 3}, 0.5) == pytest.approx(ms, rel=0.1, abs=1)

    def test_of_nothing_there_is_none(self):
        assert durations.percentile({}, 0.5) is None

    def test_shares_go_by_what_is_below(self):
        found = {"0": 90, "30": 9, "50": 1}

        assert [durations.percentile(found, share) for share in (0.5, 0.95, 1.0)] == [
            0.0,
            durations.middle(30),
            durations.middle(50),
        ]


class TestTallies:
    def test_deliveries_and_attempts_are_counted_by_result_reason_and_subscription(self):
        one, other = factories.subscription(), factories.subscription(name="other")
        delivered(one, at=NOON, retries=2)
        delivered(one, at=NOON, status="given_up", reason="http_410")
        delivered(other, at=NOON)

        rollups.count(now=NOON + timedelta(minutes=1))

        rows = Rollup.objects.filter(minutes=5, kind="delivery")
        counted = set(rows.values_list("subscription", "result", "reason", "count"))
        assert counted == {
            (one.pk, "succeeded", "", 1),
            (one.pk, "given_up", "http_410", 1),
            (other.pk, "succeeded", "", 1),
            (EVERYBODY, "succeeded", "", 2),
            (EVERYBODY, "given_up", "http_410", 1),
        }
        [retries] = Rollup.objects.filter(minutes=60, subscription=EVERYBODY, result="retry")
        assert (retries.reason, retries.count) == ("http_503", 2)
        assert sum(retries.durations.values()) == 2

    def test_counting_twice_changes_nothing(self):
        delivered(factories.subscription(), at=NOON)
        now = NOON + timedelta(minutes=1)

        rollups.count(now=now)
        before = sorted(Rollup.objects.values_list("minutes", "kind", "result", "count"))
        rollups.count(now=now)

        assert sorted(Rollup.objects.values_list("minutes", "kind", "result", "count")) == before

    def test_what_comes_late_into_a_period_is_counted(self):
        subscription = factories.subscription()
        delivered(subscription, at=NOON)
        rollups.count(now=NOON + timedelta(minutes=4))

        delivered(subscription, at=NOON + timedelta(minutes=2))
        rollups.count(now=NOON + timedelta(minutes=6))

        rows = Rollup.objects.filter(subscription=EVERYBODY, kind="delivery", minutes=60)
        assert rows.get().count == 2

    def test_after_a_pause_it_goes_on_from_where_it_came_to(self):
        subscription = factories.subscription()
        delivered(subscription, at=NOON)
        rollups.count(now=NOON)
        delivered(subscription, at=NOON + timedelta(hours=5))

        rollups.count(now=NOON + timedelta(hours=9))

        hours = Rollup.objects.filter(subscription=EVERYBODY, kind="delivery", minutes=60)
        assert [one.period_start.hour for one in hours.order_by("period_start")] == [12, 17]
        assert rollups.reached() == NOON + timedelta(hours=9)

    def test_a_run_that_is_out_of_time_leaves_the_rest_to_the_next(self):
        delivered(factories.subscription(), at=NOON)
        later = NOON + timedelta(hours=2)

        assert rollups.count(now=later, max_seconds=0) == 1
        assert rollups.reached() < later
        rollups.count(now=later)
        assert rollups.reached() == later

    def test_short_periods_are_kept_for_two_days(self):
        delivered(factories.subscription(), at=NOON)
        rollups.count(now=NOON)

        Heartbeat.objects.update(reached=NOON + timedelta(days=4))
        rollups.count(now=NOON + timedelta(days=4))

        assert set(Rollup.objects.values_list("minutes", flat=True)) == {60}

    def test_where_nothing_ever_happened_nothing_is_counted(self):
        assert rollups.count(now=NOON) == 0
        assert Rollup.objects.count() == 0


class TestStatistics:
    @pytest.mark.parametrize("name", statistics.RANGES)
    def test_each_range_tells_what_there_was(self, name):
        subscription = factories.subscription()
        for number in range(3):
            delivered(subscription, at=NOON - timedelta(minutes=number), seconds=2, ms=100)
        delivered(subscription, at=NOON, status="given_up", reason="http_500", retries=1)
        rollups.count(now=NOON)

        found = statistics.figures(statistics.RANGES[name], now=NOON)

        assert (found.succeeded, found.given_up, found.cancelled) == (3, 1, 0)
        assert found.success_rate == 0.75
        assert found.retries_by_reason == [("http_503", 1)]
        assert found.latency[0] == pytest.approx(2000, rel=0.1)
        assert found.duration[2] == pytest.approx(100, rel=0.1)
        assert sum(part.succeeded for part in found.parts) == 3
        assert len(found.parts) == {"1h": 12, "24h": 24, "7d": 28, "30d": 30}[name]

    def test_of_one_subscription_alone(self):
        one, other = factories.subscription(), factories.subscription(name="other")
        delivered(one, at=NOON)
        rollups.count(now=NOON)
        day = statistics.RANGES["24h"]

        assert statistics.figures(day, subscriptions=[one.pk], now=NOON).succeeded == 1
        assert statistics.figures(day, subscriptions=[other.pk], now=NOON).succeeded == 0
        assert statistics.figures(day, subscriptions=[], now=NOON).success_rate is None

    def test_what_waits(self):
        waiting = factories.delivery()
        Delivery.objects.update(due_at=times.now() - timedelta(minutes=5))

        found = statistics.backlog(subscriptions=[waiting.subscription_id])

        assert (found.due, found.held) == (1, 0)
        assert times.now() - found.oldest_due > timedelta(minutes=4)

    def test_who_is_at_work(self):
        heartbeat.beat("sweep")
        Heartbeat.objects.create(name="roll_up", at=times.now() - timedelta(hours=1))

        assert {one.name: one.is_alive for one in statistics.lives()} == {
            "sweep": True,
            "check_health": False,
            "roll_up": False,
        }

    def test_a_process_says_so_once_in_a_few_seconds(self, django_assert_num_queries):
        heartbeat.beat("sweep")

        with django_assert_num_queries(0):
            heartbeat.beat("sweep")

    def test_a_heartbeat_that_cannot_be_written_stops_no_task(self, monkeypatch, caplog):
        from django.db import DatabaseError

        def fails(*args, **options):
            raise DatabaseError("read only")

        monkeypatch.setattr(type(Heartbeat.objects.all()), "beat", fails)

        heartbeat.beat("deliver", using="default")

        assert "could not be recorded" in caplog.text


class TestPage:
    def test_it_tells_figures_trouble_and_who_is_at_work(self, admin_client):
        subscription = factories.subscription(name="Warehouse")
        Subscription.objects.update(created_at=times.now() - timedelta(hours=1))
        delivered(subscription, at=times.now(), retries=1)
        delivered(subscription, at=times.now(), status="given_up", reason="http_500")
        EndpointHealth.objects.update(
            state="unhealthy", failing_since=times.now(), reason="http_500", is_active=None
        )
        tasks.roll_up()

        text = admin_client.get(pages.url("overviewpage")).content.decode()

        assert "50 %" in text
        assert "1 arrived, 1 given up" in text
        assert "Unhealthy (http_500)" in text
        assert "http_503" in text
        assert text.count('<svg class="webhooks-chart"') == 2
        assert 'role="img" aria-label="Deliveries: 1 arrived, 1 given up, 0 cancelled."' in text
        assert "Periodic tasks do not run: sweep, check_health;" in text  # none was seen

    @pytest.mark.parametrize("range_", ["1h", "24h", "7d", "30d"])
    def test_what_has_not_arrived_leads_to_a_list_of_as_many(self, admin_client, range_):
        """Each was given up long after it was recorded."""
        now, subscription = times.now(), factories.subscription()
        for ago in (10, 2 * 60, 2 * 24 * 60, 20 * 24 * 60):
            factories.over(
                subscription,
                recorded=now - timedelta(days=40),
                finished=now - timedelta(minutes=ago),
            )
        for minutes in (rollups.SHORT, rollups.LONG):
            Rollup.objects.create(
                minutes=minutes, period_start=rollups.floor(now, minutes=minutes),
                subscription=EVERYBODY, kind=Rollup.Kind.DELIVERY, result="given_up", count=4,
            )  # fmt: skip

        page = admin_client.get(pages.url("overviewpage") + f"?range={range_}")

        [query] = re.findall(r"/delivery/\?([^\"]*replayed=no[^\"]*)", page.content.decode())
        behind = admin_client.get(f"{pages.url('delivery')}?{html.unescape(query)}")
        wanted = {"1h": 1, "24h": 2, "7d": 3, "30d": 4}[range_]
        assert page.context["unresolved"] == wanted
        assert behind.context["cl"].result_count == wanted

    @pytest.mark.parametrize("query", ["?range=1h", "?range=30d", "?range=x", "?subscription=x"])
    def test_it_answers_whatever_is_asked(self, admin_client, query):
        assert admin_client.get(pages.url("overviewpage") + query).status_code == 200

    def test_subscriptions_that_nothing_is_sent_to_are_named(self, admin_client):
        factories.subscription(name="Well")
        factories.subscription(name="Holiday").pause("closed until Monday")
        factories.subscription(name="Dead").disable("All endpoints have failed since Friday.")

        page = admin_client.get(pages.url("overviewpage"))

        shown = [(one["subscription"], one["reason"]) for one in page.context["stopped"]]
        assert ["Dead" in shown[0][0], "Holiday" in shown[1][0], len(shown)] == [True, True, 2]
        text = page.content.decode()
        assert "All endpoints have failed since Friday." in text
        assert "closed until Monday" in text
        assert 'webhooks-unhealthy">Disabled</span>' in text
        assert 'webhooks-disabled">Paused</span>' in text

    def test_of_one_subscription_no_other_is_named(self, admin_client):
        one, other = factories.subscription(), factories.subscription(name="other")
        other.pause()

        page = admin_client.get(f"{pages.url('overviewpage')}?subscription={one.pk}")

        assert page.context["stopped"] == []

    def test_where_there_is_no_subscription_it_says_what_to_do(self, admin_client):
        text = admin_client.get(pages.url("overviewpage")).content.decode()

        assert "Add the first one." in text

    def test_of_one_subscription(self, admin_client):
        one, other = factories.subscription(), factories.subscription(name="other")
        delivered(one, at=times.now())
        tasks.roll_up()

        def shown(subscription):
            page = admin_client.get(f"{pages.url('overviewpage')}?subscription={subscription.pk}")
            return page.context["figures"].succeeded

        assert (shown(one), shown(other)) == (1, 0)

    def test_it_is_for_those_with_its_permission(self, client):
        pages.staff(client, "view_delivery")

        assert client.get(pages.url("overviewpage")).status_code == 403

    def test_it_is_linked_from_the_index(self, client):
        pages.staff(client, "view_overviewpage")

        assert pages.url("overviewpage") in client.get("/admin/").content.decode()
        assert client.get(pages.url("overviewpage")).status_code == 200

    def test_it_takes_as_many_queries_whatever_there_is(
        self, admin_client, django_assert_max_num_queries
    ):
        for number in range(5):
            delivered(factories.subscription(name=str(number)), at=times.now())
        tasks.roll_up()

        # Servers are asked for their clock, too.
        clocks = 0 if connection.vendor == "sqlite" else 4
        with django_assert_max_num_queries(23 + clocks):
            admin_client.get(pages.url("overviewpage"))


class TestCommand:
    def run(self, *arguments, **options):
        out = StringIO()
        call_command("webhooks_stats", *arguments, stdout=out, **options)
        return out.getvalue()

    def test_it_prints_a_table_and_json(self):
        subscription = factories.subscription()
        delivered(subscription, at=times.now(), retries=1)
        tasks.roll_up()

        table, found = self.run(), json.loads(self.run("CRM", json=True, range="1h"))

        assert "success rate            1\n" in table
        assert "http_503 1" in table
        assert (found["succeeded"], found["range"]) == (1, "1h")
        assert found["retries_by_reason"] == {"http_503": 1}
        assert found["alive"]["roll_up"] is True


def test_the_whole_app_can_be_dumped(capsys):
    delivered(factories.subscription(), at=times.now())
    tasks.roll_up()

    call_command("dumpdata", "django_webhooks")

    models = {row["model"] for row in json.loads(capsys.readouterr().out)}
    assert {"django_webhooks.subscription", "django_webhooks.rollup"} <= models
    assert "django_webhooks.overviewpage" not in models

"""Tallies, statistics and the overview: what was counted, and what people see of it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from django.core.management import call_command
from django.utils import timezone

from django_webhooks import tasks
from django_webhooks.fields import uuid7_at
from django_webhooks.models import Attempt, Delivery, Health, Pulse, Tally
from django_webhooks.models.tally import EVERYBODY
from django_webhooks.policies import durations
from django_webhooks.sending import pulses, statistics, tallies
from tests import factories, pages

pytestmark = pytest.mark.django_db
NOON = datetime(2026, 3, 5, 12, 2, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _any_type(settings):
    settings.WEBHOOKS_ALLOW_UNKNOWN_EVENT_TYPES = True
    pulses._said.clear()


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

        tallies.count(now=NOON + timedelta(minutes=1))

        rows = Tally.objects.filter(minutes=5, kind="delivery")
        counted = set(rows.values_list("subscription", "result", "reason", "count"))
        assert counted == {
            (one.pk, "succeeded", "", 1),
            (one.pk, "given_up", "http_410", 1),
            (other.pk, "succeeded", "", 1),
            (EVERYBODY, "succeeded", "", 2),
            (EVERYBODY, "given_up", "http_410", 1),
        }
        [retries] = Tally.objects.filter(minutes=60, subscription=EVERYBODY, result="retry")
        assert (retries.reason, retries.count) == ("http_503", 2)
        assert sum(retries.durations.values()) == 2

    def test_counting_twice_changes_nothing(self):
        delivered(factories.subscription(), at=NOON)
        now = NOON + timedelta(minutes=1)

        tallies.count(now=now)
        before = sorted(Tally.objects.values_list("minutes", "kind", "result", "count"))
        tallies.count(now=now)

        assert sorted(Tally.objects.values_list("minutes", "kind", "result", "count")) == before

    def test_what_comes_late_into_a_period_is_counted(self):
        subscription = factories.subscription()
        delivered(subscription, at=NOON)
        tallies.count(now=NOON + timedelta(minutes=4))

        delivered(subscription, at=NOON + timedelta(minutes=2))
        tallies.count(now=NOON + timedelta(minutes=6))

        rows = Tally.objects.filter(subscription=EVERYBODY, kind="delivery", minutes=60)
        assert rows.get().count == 2

    def test_after_a_pause_it_goes_on_from_where_it_came_to(self):
        subscription = factories.subscription()
        delivered(subscription, at=NOON)
        tallies.count(now=NOON)
        delivered(subscription, at=NOON + timedelta(hours=5))

        tallies.count(now=NOON + timedelta(hours=9))

        hours = Tally.objects.filter(subscription=EVERYBODY, kind="delivery", minutes=60)
        assert [one.period_start.hour for one in hours.order_by("period_start")] == [12, 17]
        assert tallies.reached() == NOON + timedelta(hours=9)

    def test_a_run_that_is_out_of_time_leaves_the_rest_to_the_next(self):
        delivered(factories.subscription(), at=NOON)
        later = NOON + timedelta(hours=2)

        assert tallies.count(now=later, max_seconds=0) == 1
        assert tallies.reached() < later
        tallies.count(now=later)
        assert tallies.reached() == later

    def test_short_periods_are_kept_for_two_days(self):
        delivered(factories.subscription(), at=NOON)
        tallies.count(now=NOON)

        Pulse.objects.update(reached=NOON + timedelta(days=4))
        tallies.count(now=NOON + timedelta(days=4))

        assert set(Tally.objects.values_list("minutes", flat=True)) == {60}

    def test_where_nothing_ever_happened_nothing_is_counted(self):
        assert tallies.count(now=NOON) == 0
        assert Tally.objects.count() == 0


class TestStatistics:
    @pytest.mark.parametrize("name", statistics.RANGES)
    def test_each_range_tells_what_there_was(self, name):
        subscription = factories.subscription()
        for number in range(3):
            delivered(subscription, at=NOON - timedelta(minutes=number), seconds=2, ms=100)
        delivered(subscription, at=NOON, status="given_up", reason="http_500", retries=1)
        tallies.count(now=NOON)

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
        tallies.count(now=NOON)
        day = statistics.RANGES["24h"]

        assert statistics.figures(day, subscriptions=[one.pk], now=NOON).succeeded == 1
        assert statistics.figures(day, subscriptions=[other.pk], now=NOON).succeeded == 0
        assert statistics.figures(day, subscriptions=[], now=NOON).success_rate is None

    def test_what_waits(self):
        waiting = factories.delivery()
        Delivery.objects.update(due_at=timezone.now() - timedelta(minutes=5))

        found = statistics.backlog(subscriptions=[waiting.subscription_id])

        assert (found.due, found.held) == (1, 0)
        assert timezone.now() - found.oldest_due > timedelta(minutes=4)

    def test_who_is_at_work(self):
        tasks.pulses.beat("sweep")
        Pulse.objects.create(name="tally", at=timezone.now() - timedelta(hours=1))

        assert {one.name: one.is_alive for one in statistics.lives()} == {
            "sweep": True,
            "check_health": False,
            "tally": False,
        }

    def test_a_process_says_so_once_in_a_few_seconds(self, django_assert_num_queries):
        pulses.beat("sweep")

        with django_assert_num_queries(0):
            pulses.beat("sweep")

    def test_a_pulse_that_cannot_be_written_stops_no_task(self, monkeypatch, caplog):
        from django.db import DatabaseError

        def fails(*args, **options):
            raise DatabaseError("read only")

        monkeypatch.setattr(type(Pulse.objects.all()), "beat", fails)

        pulses.beat("deliver", using="default")

        assert "could not be recorded" in caplog.text


class TestPage:
    def test_it_tells_figures_trouble_and_who_is_at_work(self, admin_client):
        subscription = factories.subscription(name="Warehouse")
        delivered(subscription, at=timezone.now(), retries=1)
        delivered(subscription, at=timezone.now(), status="given_up", reason="http_500")
        Health.objects.update(
            state="unhealthy", failing_since=timezone.now(), reason="http_500", is_active=None
        )
        tasks.tally()

        text = admin_client.get(pages.url("overview")).content.decode()

        assert "50 %" in text
        assert "1 arrived, 1 given up" in text
        assert "Unhealthy (http_500)" in text
        assert "http_503" in text
        assert text.count('<svg class="webhooks-chart"') == 2
        assert 'role="img" aria-label="Deliveries: 1 arrived, 1 given up, 0 cancelled."' in text
        assert "Is a worker running" in text  # no sweep was seen

    @pytest.mark.parametrize("query", ["?range=1h", "?range=30d", "?range=x", "?subscription=x"])
    def test_it_answers_whatever_is_asked(self, admin_client, query):
        assert admin_client.get(pages.url("overview") + query).status_code == 200

    def test_subscriptions_that_nothing_is_sent_to_are_named(self, admin_client):
        factories.subscription(name="Well")
        factories.subscription(name="Holiday").pause("closed until Monday")
        factories.subscription(name="Dead").disable("All endpoints have failed since Friday.")

        page = admin_client.get(pages.url("overview"))

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

        page = admin_client.get(f"{pages.url('overview')}?subscription={one.pk}")

        assert page.context["stopped"] == []

    def test_where_there_is_no_subscription_it_says_what_to_do(self, admin_client):
        text = admin_client.get(pages.url("overview")).content.decode()

        assert "Add the first one." in text

    def test_of_one_subscription(self, admin_client):
        one, other = factories.subscription(), factories.subscription(name="other")
        delivered(one, at=timezone.now())
        tasks.tally()

        def shown(subscription):
            page = admin_client.get(f"{pages.url('overview')}?subscription={subscription.pk}")
            return page.context["figures"].succeeded

        assert (shown(one), shown(other)) == (1, 0)

    def test_it_is_for_those_with_its_permission(self, client):
        pages.staff(client, "view_delivery")

        assert client.get(pages.url("overview")).status_code == 403

    def test_it_is_linked_from_the_index(self, client):
        pages.staff(client, "view_overview")

        assert pages.url("overview") in client.get("/admin/").content.decode()
        assert client.get(pages.url("overview")).status_code == 200

    def test_it_takes_as_many_queries_whatever_there_is(
        self, admin_client, django_assert_max_num_queries
    ):
        for number in range(5):
            delivered(factories.subscription(name=str(number)), at=timezone.now())
        tasks.tally()

        with django_assert_max_num_queries(16):
            admin_client.get(pages.url("overview"))


class TestCommand:
    def run(self, *arguments, **options):
        out = StringIO()
        call_command("webhooks_stats", *arguments, stdout=out, **options)
        return out.getvalue()

    def test_it_prints_a_table_and_json(self):
        subscription = factories.subscription()
        delivered(subscription, at=timezone.now(), retries=1)
        tasks.tally()

        table, found = self.run(), json.loads(self.run("CRM", json=True, range="1h"))

        assert "success rate            1\n" in table
        assert "http_503 1" in table
        assert (found["succeeded"], found["range"]) == (1, "1h")
        assert found["retries_by_reason"] == {"http_503": 1}
        assert found["alive"]["tally"] is True


def test_the_whole_app_can_be_dumped(capsys):
    delivered(factories.subscription(), at=timezone.now())
    tasks.tally()

    call_command("dumpdata", "django_webhooks")

    models = {row["model"] for row in json.loads(capsys.readouterr().out)}
    assert {"django_webhooks.subscription", "django_webhooks.tally"} <= models
    assert "django_webhooks.overview" not in models

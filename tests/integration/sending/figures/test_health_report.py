"""One report says whether something is not well, and all who say so ask it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.core import checks
from django.core.management import call_command
from django.db import connection

from django_webhooks import encryption, times
from django_webhooks.auditing import audit
from django_webhooks.auditing.models import AuditReport
from django_webhooks.metrics import exposition
from django_webhooks.models import Delivery, Endpoint, EndpointHealth, SigningKey, Subscription
from django_webhooks.models.figures.heartbeat import Heartbeat
from django_webhooks.sending.figures import health_report
from django_webhooks.sending.figures.health_report import Kind
from tests import factories, pages

pytestmark = pytest.mark.django_db
TASKS = ("sweep", "check_health", "roll_up", "deliver", "prune")


@pytest.fixture
def now():
    return times.now()


def at_work(now, *, but=(), ago=timedelta(0)):
    """Let each task have run just now; ``but`` these so long ago, or never where no time is."""
    for name in TASKS:
        if name in but and not ago:
            continue
        Heartbeat.objects.beat(name, now=now - ago if name in but else now)


def old(**fields):
    """A subscription that has been there for a while."""
    made = factories.subscription(**fields)
    Subscription.objects.filter(pk=made.pk).update(created_at=times.now() - timedelta(days=1))
    return made


def due_since(now, **ago):
    for one in factories.record():
        Delivery.objects.filter(pk=one.pk).update(due_at=now - timedelta(**ago))


def kinds(now, **arguments):
    return [one.kind for one in health_report.report(now=now, **arguments).problems]


class TestWorkers:
    def test_all_at_work_is_well(self, now):
        old()
        at_work(now)

        assert kinds(now) == []

    def test_nothing_has_to_run_on_a_site_without_subscriptions(self, now):
        assert kinds(now) == []

    def test_nor_in_the_first_minute(self, now):
        factories.subscription()

        assert kinds(now) == []
        assert kinds(now + timedelta(seconds=90)) == [Kind.NO_BEAT]

    @pytest.mark.parametrize("ago", [timedelta(0), timedelta(minutes=2), timedelta(days=2)])
    @pytest.mark.parametrize("task", ["sweep", "check_health"])
    def test_a_periodic_task_that_does_not_run(self, now, task, ago):
        old()
        at_work(now, but=[task], ago=ago)

        [found] = health_report.report(now=now).problems
        assert found.kind == Kind.NO_BEAT
        assert task in found.sentence
        assert "webhooks-periodic" in found.advice

    @pytest.mark.parametrize("ago", [timedelta(0), timedelta(minutes=2), timedelta(days=2)])
    def test_deliveries_that_nobody_takes(self, now, ago):
        old()
        at_work(now, but=["deliver"], ago=ago)
        due_since(now, seconds=90)

        assert kinds(now) == [Kind.NO_WORKER]

    def test_a_dead_beat_and_no_worker_are_told_each(self, now):
        old()
        due_since(now, minutes=10)

        assert kinds(now) == [Kind.NO_BEAT, Kind.NO_WORKER]

    def test_a_site_that_was_just_set_up_and_whose_delivery_waits(self, now):
        factories.subscription()
        due_since(now, seconds=90)

        assert Kind.NO_WORKER in kinds(now)

    @pytest.mark.parametrize(("minutes", "expected"), [(4, []), (6, [Kind.LATE])])
    def test_workers_that_do_not_keep_up(self, now, minutes, expected):
        old()
        at_work(now)
        due_since(now, minutes=minutes)

        assert kinds(now) == expected

    @pytest.mark.parametrize(("minutes", "expected"), [(70, []), (80, [Kind.NO_WORKER])])
    def test_without_traffic_the_hourly_task_of_the_queue_tells(self, now, minutes, expected):
        old()
        at_work(now, but=["deliver", "prune"], ago=timedelta(minutes=minutes))

        assert kinds(now) == expected

    def test_what_is_not_due_waits_for_nobody(self, now):
        old()
        at_work(now, but=["deliver"])
        due_since(now, hours=-1)
        factories.subscription(url=None, name="paused").pause()

        assert kinds(now) == []


class TestKeys:
    @pytest.fixture(autouse=True)
    def _keys(self, settings, now):
        settings.WEBHOOKS_ENCRYPTION_KEYS = [encryption.generate_key()]
        old(name="CRM")
        at_work(now)

    def test_rows_of_a_lost_key_are_found_before_a_worker_meets_them(self, settings, now):
        settings.WEBHOOKS_ENCRYPTION_KEYS = [encryption.generate_key()]

        [found] = health_report.report(now=now).problems

        assert found.kind == Kind.UNREADABLE
        assert "2 encrypted values" in found.sentence  # a URL and a signing key
        assert "CRM" in found.sentence
        assert "WEBHOOKS_ENCRYPTION_KEYS" in found.advice

    @pytest.mark.parametrize("model", [Endpoint, SigningKey])
    def test_what_was_written_past_the_models_is_found_and_not_shown(self, model, now):
        column = "url" if model is Endpoint else "secret"
        with connection.cursor() as cursor:
            cursor.execute(
                f"UPDATE {model._meta.db_table} SET {column} = %s", ["planted-in-the-clear"]
            )

        [found] = health_report.report(now=now).problems

        assert found.kind == Kind.UNREADABLE
        assert "planted" not in str(found)

    def test_what_a_worker_could_not_open_is_told(self, now):
        Subscription.objects.update(unreadable_since=now)

        assert kinds(now) == [Kind.UNREADABLE]

    @pytest.mark.parametrize("lost", [False, True])
    def test_the_deploy_check_says_it(self, settings, lost):
        if lost:
            settings.WEBHOOKS_ENCRYPTION_KEYS = [encryption.generate_key()]

        found = checks.run_checks(tags=["webhooks"], include_deployment_checks=True)
        without = checks.run_checks(tags=["webhooks"])

        assert ("webhooks.E100" in {one.id for one in found}) == lost
        assert "webhooks.E100" not in {one.id for one in without}

    def test_the_check_says_nothing_without_tables(self, monkeypatch):
        from django.db import OperationalError

        from django_webhooks.checks import rows

        def fail(**kwargs):
            raise OperationalError("no such table")

        monkeypatch.setattr(rows, "unreadable", fail)

        assert rows.check_rows_can_be_read() == []


def unhealthy(now):
    EndpointHealth.objects.update(
        state="unhealthy", failing_since=now, reason="timeout", hold_until=now
    )


def gone(now):
    Endpoint.objects.get().disable("http_410")


def disabled(now):
    Subscription.objects.get().disable("All endpoints have failed since Monday.")


def bare(now):
    Endpoint.objects.all().delete()


def given_up(now):
    [one] = factories.record()
    Delivery.objects.filter(pk=one.pk).update(status="given_up", due_at=None, finished_at=now)


def audited(now):
    finding = {"id": "webhooks.A001", "subject": "x", "severity": "severe", "accepted": None}
    AuditReport.objects.create(created_at=now, findings=[finding], counts={"severe": 1}, chain={})


def lost(now):
    Subscription.objects.update(unreadable_since=now)


def beatless(now):
    Heartbeat.objects.filter(pk="sweep").delete()


FAULTS = {
    unhealthy: [Kind.ENDPOINT_UNHEALTHY],
    gone: [Kind.NO_ENDPOINT, Kind.ENDPOINT_DISABLED],
    disabled: [Kind.SUBSCRIPTION_DISABLED],
    bare: [Kind.NO_ENDPOINT],
    given_up: [Kind.GIVEN_UP],
    audited: [Kind.AUDIT],
    lost: [Kind.UNREADABLE],
    beatless: [Kind.NO_BEAT],
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda one: one.__name__)
class TestEverybodyAsksIt:
    @pytest.fixture(autouse=True)
    def _arranged(self, fault, now):
        old(name="CRM")
        at_work(now)
        assert kinds(now) == []
        fault(now)

    def test_the_report(self, fault, now):
        assert kinds(now) == FAULTS[fault]
        for one in health_report.report(now=now).problems:
            assert one.sentence.endswith((".", ")")), one
            assert one.advice.endswith("."), one

    def test_the_command_and_its_exit_status(self, fault, capsys):
        with pytest.raises(SystemExit) as ended:
            call_command("webhooks_health")
        lines = capsys.readouterr().out.splitlines()
        told = [line.partition(":")[0] for line in lines if line.partition(":")[0] in list(Kind)]

        assert ended.value.code == 1
        assert told == FAULTS[fault]
        call_command("webhooks_health", *[f"--ignore={one.value}" for one in FAULTS[fault]])

    def test_metrics(self, fault):
        text = exposition.answer("")[0].decode()
        for kind in Kind:
            expected = float(kind in FAULTS[fault])
            assert f'django_webhooks_problems{{kind="{kind.value}"}} {expected}' in text

    def test_the_overview(self, fault, admin_client):
        text = admin_client.get(pages.url("overviewpage")).content.decode()
        for one in health_report.site(using="default", now=times.now()):
            assert one.sentence in text

    def test_an_audit(self, fault, now):
        found = {one.id for one in audit.run(now=now).findings}

        assert ("webhooks.A024" in found) == (fault is beatless)


def test_a_tenant_is_told_of_its_own_alone(now):
    mine, other = old(name="mine"), old(name="other")
    at_work(now)
    for one in Endpoint.objects.all():
        one.disable("http_410")

    found = health_report.report(subscriptions=[mine.pk], now=now).problems

    assert {one.kind for one in found} == {Kind.NO_ENDPOINT, Kind.ENDPOINT_DISABLED}
    assert not any(other.name in one.sentence for one in found)


def test_many_of_a_kind_are_counted_and_some_named(now):
    for number in range(23):
        old(name=f"s{number:02}", url=None)
    at_work(now)

    report = health_report.report(now=now)

    assert report.count(Kind.NO_ENDPOINT) == 23
    assert len(report.problems) == 21
    assert report.problems[-1].sentence.startswith("3 more of this kind")
    assert not report.is_well


def test_what_was_given_up_long_ago_is_left_to_audits(now, monkeypatch):
    old()
    at_work(now)
    given_up(now - timedelta(days=8))

    assert kinds(now) == []
    monkeypatch.setattr(health_report, "IDLE", timedelta(days=9))
    assert kinds(now) == [Kind.GIVEN_UP]


@pytest.mark.parametrize("is_delivering", [False, True])
def test_a_delivery_says_that_no_worker_is_there(now, is_delivering):
    old()
    at_work(now, but=[] if is_delivering else ["deliver"])
    due_since(now, minutes=3)

    sentence = Delivery.objects.get().explain(now)

    assert ("none is at work" in sentence) != is_delivering


@pytest.mark.parametrize("fault", [gone, unhealthy], ids=["disabled", "unhealthy"])
def test_the_overview_names_the_endpoints(now, admin_client, fault):
    old(name="CRM")
    at_work(now)
    assert "All are well." in admin_client.get(pages.url("overviewpage")).content.decode()
    fault(now)

    text = admin_client.get(pages.url("overviewpage")).content.decode()

    assert "All are well." not in text
    assert ("Disabled (http_410)" if fault is gone else "Unhealthy (timeout)") in text

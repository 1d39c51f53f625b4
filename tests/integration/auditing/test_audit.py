"""Audits: each fault is found by its rule and by no other, accepted for a while, told when new."""

from __future__ import annotations

import json
import tempfile
from datetime import datetime, timedelta
from io import StringIO
from pathlib import Path

import pytest
from django.contrib.auth.models import Permission, User
from django.core import mail
from django.core.management import CommandError, call_command
from django.db import connection

from django_webhooks import audit_log, encryption, times
from django_webhooks.audit_log import without_audit
from django_webhooks.auditing import audit, chain, mailing, rendering
from django_webhooks.auditing import tasks as auditing_tasks
from django_webhooks.auditing.finding import RULES, Severity, rule
from django_webhooks.auditing.models import AcceptedFinding, AuditEntry, AuditHead, AuditReport
from django_webhooks.models import Delivery, Endpoint, EndpointHealth, SigningKey, Subscription
from django_webhooks.models.figures.heartbeat import Heartbeat
from django_webhooks.models.figures.rollup import Rollup
from django_webhooks.sending.figures import rollups
from tests import certificates, factories

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.every_case]

DAY = timedelta(days=1)
URL = "https://{}.example/hook"
OLD, NEW = encryption.generate_key(), encryption.generate_key()


@pytest.fixture
def now():
    return times.now()


@pytest.fixture(autouse=True)
def _in_order(settings):
    settings.WEBHOOKS_REQUIRE_HTTPS = True
    settings.WEBHOOKS_ALLOWED_NETWORKS = []
    settings.WEBHOOKS_ENCRYPTION_KEYS = [NEW, OLD]


@pytest.fixture
def crm(now):
    """A subscription with which nothing is wrong."""
    for name in ("sweep", "check_health", "roll_up"):
        Heartbeat.objects.beat(name, now=now)
    made = factories.subscription(url=URL.format("one"))
    Endpoint.objects.create(subscription=made, url=URL.format("two"), position=1)
    EndpointHealth.objects.update(succeeded_at=now)
    return made


def found(now: datetime) -> list[tuple[str, str, str]]:
    return [
        (one.id.removeprefix("webhooks."), one.severity.value, one.subject.partition(":")[0])
        for one in audit.run(now=now).findings
    ]


def change(rows, **fields):
    """Change rows as time would."""
    with without_audit():
        rows.update(**fields)


def certificate(*, days: int) -> str:
    with tempfile.TemporaryDirectory() as folder:
        made = certificates.make(Path(folder), days=(-400, days))
        return made.certificate.read_text() + made.key.read_text()


def rollup(subscription, days_ago, count, now):
    start = rollups.floor(now, minutes=60) - days_ago * DAY
    Rollup.objects.create(
        minutes=60,
        period_start=start,
        subscription=subscription.pk,
        kind="delivery",
        result="succeeded",
        count=count,
    )


class Plant:
    """Faults, by the name of what is planted."""

    @staticmethod
    def clear_text(crm, now, settings):
        settings.WEBHOOKS_REQUIRE_HTTPS = False
        crm.endpoints.get(position=1).delete()
        Endpoint.objects.create(subscription=crm, url="http://three.example/", position=1)
        settings.WEBHOOKS_REQUIRE_HTTPS = True

    @staticmethod
    def old_key(crm, now, settings):
        change(SigningKey.objects.all(), created_at=now - 366 * DAY)

    @staticmethod
    def first_key(crm, now, settings):
        change(SigningKey.objects.all(), created_at=now - 200 * DAY)
        change(Subscription.objects.all(), created_at=now - 200 * DAY)

    @staticmethod
    def github(crm, now, settings):
        change(Subscription.objects.all(), signature_style="github")

    @staticmethod
    def stripe(crm, now, settings):
        change(Subscription.objects.all(), signature_style="stripe")

    @staticmethod
    def network(crm, now, settings):
        settings.WEBHOOKS_ALLOWED_NETWORKS = ["10.1.2.0/24"]
        settings.WEBHOOKS_ALLOWED_PORTS = [443]

    @staticmethod
    def wide_network(crm, now, settings):
        settings.WEBHOOKS_ALLOWED_NETWORKS = ["10.0.0.0/8"]
        settings.WEBHOOKS_ALLOWED_PORTS = [443]

    @staticmethod
    def every_port(crm, now, settings):
        settings.WEBHOOKS_ALLOWED_NETWORKS = ["fd00::/64"]

    @staticmethod
    def https_off(crm, now, settings):
        settings.WEBHOOKS_REQUIRE_HTTPS = False

    @staticmethod
    def proxy(crm, now, settings):
        settings.WEBHOOKS_PROXY_URL = "http://proxy.example:4750"
        settings.WEBHOOKS_DENIED_NETWORKS = ["192.0.2.0/24"]
        settings.SILENCED_SYSTEM_CHECKS = ["webhooks.W010"]

    @staticmethod
    def failing(crm, now, settings):
        EndpointHealth.objects.filter(endpoint__position=1).update(
            state="unhealthy", failing_since=now - timedelta(hours=2), reason="timeout"
        )

    @staticmethod
    def failing_long(crm, now, settings):
        EndpointHealth.objects.filter(endpoint__position=1).update(
            state="unhealthy", failing_since=now - 2 * DAY
        )

    @staticmethod
    def disabled_endpoint(crm, now, settings):
        Endpoint.objects.create(subscription=crm, url=URL.format("three"), position=2)
        crm.endpoints.get(position=2).disable("410")

    @staticmethod
    def disabled(crm, now, settings):
        crm.disable("all fail")

    @staticmethod
    def paused(crm, now, settings):
        crm.pause("they move")
        change(Subscription.objects.all(), sending_changed_at=now - 8 * DAY)

    @staticmethod
    def silent(crm, now, settings):
        change(Subscription.objects.all(), created_at=now - 8 * DAY)
        EndpointHealth.objects.update(succeeded_at=None)

    @staticmethod
    def no_backup(crm, now, settings):
        crm.endpoints.get(position=1).delete()

    @staticmethod
    def no_endpoint(crm, now, settings):
        for one in crm.endpoints.all():
            one.delete()

    @staticmethod
    def same_host(crm, now, settings):
        Endpoint.objects.create(subscription=crm, url="https://one.example/b", position=2)

    @staticmethod
    def many(crm, now, settings):
        for day in range(1, 5):
            rollup(crm, day, 30, now)
        rollup(crm, 0, 151, now)

    @staticmethod
    def few(crm, now, settings):
        for day in range(1, 5):
            rollup(crm, day, 30, now)
        rollup(crm, 0, 2, now)

    @staticmethod
    def check(crm, now, settings):
        settings.WEBHOOKS_NONSENSE = 1

    @staticmethod
    def failed_check(crm, now, settings):
        settings.WEBHOOKS_MAX_IN_FLIGHT = 0

    @staticmethod
    def former_key(crm, now, settings):
        settings.WEBHOOKS_ENCRYPTION_KEYS = [OLD, NEW]

    @staticmethod
    def beat(crm, now, settings):
        Heartbeat.objects.filter(pk="sweep").update(at=now - timedelta(minutes=10))
        change(Subscription.objects.all(), created_at=now - timedelta(hours=1))

    @staticmethod
    def certificate(crm, now, settings):
        crm.endpoints.update(client_certificate=certificate(days=20))

    @staticmethod
    def expired(crm, now, settings):
        crm.endpoints.update(client_certificate=certificate(days=-1))

    @staticmethod
    def given_up(crm, now, settings):
        factories.record()
        Delivery.objects.update(
            status="given_up", due_at=None, finished_at=now - 8 * DAY, lease_token=None
        )

    @staticmethod
    def inactive(crm, now, settings):
        user = User.objects.create_user("bob", is_active=False)
        user.user_permissions.add(Permission.objects.get(codename="see_secret"))

    @staticmethod
    def tampered(crm, now, settings):
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE django_webhooks_auditing_entry SET action = 'x' WHERE sequence = 2"
            )

    @staticmethod
    def seal(crm, now, settings):
        AuditHead.objects.update(mac="00000000:0")
        settings.WEBHOOKS_ENCRYPTION_KEYS = [NEW, OLD]


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("clear_text", [("A001", "severe", "endpoint")]),
        ("old_key", [("A002", "warning", "subscription")]),
        ("first_key", [("A003", "info", "subscription")]),
        ("github", [("A004", "warning", "subscription")]),
        ("stripe", [("A004", "info", "subscription")]),
        ("network", [("A005", "warning", "network")]),
        ("wide_network", [("A005", "severe", "network")]),
        ("https_off", [("A006", "severe", "setting")]),
        ("every_port", [("A005", "warning", "network"), ("A007", "warning", "setting")]),
        ("proxy", [("A008", "warning", "setting")]),
        ("failing", [("A009", "warning", "endpoint")]),
        ("failing_long", [("A009", "severe", "endpoint")]),
        ("disabled_endpoint", [("A010", "warning", "endpoint")]),
        ("disabled", [("A011", "severe", "subscription")]),
        ("paused", [("A012", "warning", "subscription")]),
        ("silent", [("A013", "warning", "subscription")]),
        ("no_backup", [("A014", "info", "subscription")]),
        ("no_endpoint", [("A014", "warning", "subscription")]),
        ("same_host", [("A015", "warning", "subscription")]),
        ("many", [("A016", "warning", "subscription")]),
        ("few", [("A016", "warning", "subscription")]),
        ("check", [("A018", "warning", "check")]),
        ("failed_check", [("A018", "severe", "check")]),
        ("former_key", [("A019", "warning", "key")]),
        ("beat", [("A024", "severe", "task")]),
        ("certificate", [("A025", "warning", "endpoint")] * 2),
        ("expired", [("A025", "severe", "endpoint")] * 2),
        ("given_up", [("A026", "warning", "subscription")]),
        ("inactive", [("A027", "info", "user")]),
        ("tampered", [("A021", "severe", "trail")]),
        ("seal", [("A022", "warning", "trail")]),
    ],
)
def test_a_fault_is_found_by_its_rule_and_by_no_other(crm, now, settings, fault, expected):
    assert found(now) == []

    getattr(Plant, fault)(crm, now, settings)

    assert found(now) == expected


def test_each_rule_has_a_fault_that_it_finds():
    planted = test_a_fault_is_found_by_its_rule_and_by_no_other.pytestmark[0].args[1]
    ids = {f"webhooks.{id}" for _, expected in planted for id, _, _ in expected}

    # These have tests of their own, here, in test_audit_of_receiving and test_deleted_owners.
    ids |= {"webhooks.A040"}
    receiving = {"webhooks.A017", "webhooks.A028", "webhooks.A029"}
    assert ids | {"webhooks.A020", "webhooks.A023"} | receiving == set(RULES)


def test_a_key_that_is_missing(crm, now, settings):
    settings.WEBHOOKS_ENCRYPTION_KEYS = [OLD]

    severe = [one for one in found(now) if one[0] == "A020"]
    assert severe == [("A020", "severe", "key")]
    # What does not open is not told of otherwise, but that the trail's seal cannot be checked.
    assert {one[0] for one in found(now)} == {"A020", "A022"}


def test_entries_without_a_place(crm, now, monkeypatch):
    monkeypatch.setattr(chain, "extend", lambda using: 0)
    audit_log.log("x.done")

    assert found(now) == [("A023", "warning", "trail")]


def test_nothing_is_old_before_its_time(crm, now):
    change(SigningKey.objects.all(), created_at=now - 182 * DAY)
    change(Subscription.objects.all(), created_at=now - 6 * DAY)
    EndpointHealth.objects.filter(endpoint__position=1).update(
        state="unhealthy", failing_since=now - timedelta(minutes=59), succeeded_at=None
    )

    assert found(now) == []


def test_a_rule_that_fails_hides_nothing(crm, now, monkeypatch):
    def fail(context):
        raise RuntimeError("s3cr3t")
        yield

    one = RULES["webhooks.A001"]
    monkeypatch.setitem(RULES, "webhooks.A001", type(one)(
        id=one.id, severity=one.severity, advice=one.advice, look=fail
    ))  # fmt: skip
    crm.disable("all fail")

    assert found(now) == [("A011", "severe", "subscription"), ("A000", "warning", "rule")]
    assert "s3cr3t" not in str(audit.run(now=now).findings)


def test_an_id_is_given_once():
    with pytest.raises(ValueError, match="another rule"):
        rule("webhooks.A001", Severity.INFO, "")(RULES["webhooks.A001"].look)


class TestAccepting:
    def test_until_its_time_is_over(self, crm, now):
        crm.disable("all fail")
        AcceptedFinding.objects.accept(
            "webhooks.A011", f"subscription:{crm.pk}", reason="known", days=10, by="ada"
        )

        assert found(now) == []
        assert audit.run(now=now).counts["accepted"] == 1
        assert ("A011", "severe", "subscription") in found(now + 11 * DAY)
        entry = AuditEntry.objects.get(action="finding.accepted")
        assert (entry.by, entry.detail["reason"]) == ("ada", "known")

    def test_about_all_subjects_by_the_command(self, crm, now):
        crm.disable("all fail")

        call_command(
            "webhooks_audit", accept="webhooks.A011", reason="r", by="ada", stdout=StringIO()
        )
        assert found(now) == []
        call_command("webhooks_audit", withdraw="webhooks.A011", by="bob", stdout=StringIO())

        assert found(now) == [("A011", "severe", "subscription")]
        assert AuditEntry.objects.get(action="finding.withdrawn").by == "bob"

    def test_again_it_is_accepted_anew(self, crm):
        for days in (1, 5):
            AcceptedFinding.objects.accept("webhooks.A011", reason="r", days=days, by="")

        assert AcceptedFinding.objects.get().until > times.now() + 4 * DAY


class TestReports:
    def test_the_last_ones_are_kept(self, crm, monkeypatch):
        monkeypatch.setattr(audit, "REPORTS_KEPT", 2)
        made = [audit.keep(audit.run()) for _ in range(4)]

        assert list(AuditReport.objects.order_by("pk")) == made[2:]

    def test_beat_makes_one_a_day_although_it_runs_twice(self, crm, now):
        assert audit.daily(now=now) is not None
        assert audit.daily(now=now) is None
        assert audit.daily(now=now + timedelta(minutes=59)) is None
        assert audit.daily(now=now + DAY) is not None

    def test_only_news_is_mailed_and_once(self, crm, now, settings):
        settings.WEBHOOKS_NOTIFY_OPERATORS = ["ops@example.com"]
        crm.endpoints.get(position=1).delete()
        for days in range(3):
            Heartbeat.objects.update(at=now + days * DAY)
            audit.daily(now=now + days * DAY)
            mailing.mail_news()
            mailing.mail_news()
        assert len(mail.outbox) == 1

        crm.disable("all fail")
        for days in (3, 4):
            Heartbeat.objects.update(at=now + days * DAY - 2 * timedelta(hours=1))
            audit.daily(now=now + days * DAY)
            mailing.mail_news()

        # What is severe is mailed as long as it is.
        assert len(mail.outbox) == 3
        assert "webhooks.A011" in mail.outbox[-1].body
        assert "webhooks.A011" in mail.outbox[-1].alternatives[0][0]

    def test_a_mail_that_fails_is_sent_later(self, crm, settings, monkeypatch):
        settings.WEBHOOKS_NOTIFY_OPERATORS = lambda: ["ops@example.com"]
        crm.disable("all fail")
        audit.daily()
        monkeypatch.setattr(mailing, "send", lambda *args: (_ for _ in ()).throw(OSError("gone")))
        with pytest.raises(OSError, match="gone"):
            mailing.mail_news()
        monkeypatch.undo()

        assert mailing.mail_news() == 1

    def test_the_task(self, crm):
        auditing_tasks.audit()
        auditing_tasks.audit()

        assert AuditReport.objects.count() == 1
        assert mail.outbox == []

    def test_renderings_are_escaped_and_whole(self, crm, now):
        change(Subscription.objects.all(), name="<script>alert(1)</script>")
        Subscription.objects.get().disable("<b>")
        AcceptedFinding.objects.accept("webhooks.A014", reason="<i>", days=1, by="ada")
        crm.endpoints.get(position=1).delete()
        report = audit.keep(audit.run(now=now))

        page, text = rendering.html(report), rendering.text(report)

        assert "<script" not in page
        assert "&lt;script&gt;" in page
        assert "http" not in page
        assert "webhooks.A011" in text
        assert "<script>alert(1)</script> is disabled" in text
        told = json.loads(rendering.as_json(report))
        assert told["chain"]["holds"] is True
        assert [one["id"] for one in told["findings"]] == ["webhooks.A011"]


class TestCommand:
    def run(self, *args, **options) -> str:
        out = StringIO()
        call_command("webhooks_audit", *args, stdout=out, **options)
        return out.getvalue()

    def test_all_is_well(self, crm):
        assert "Severe: 0, warnings: 0, infos: 0, accepted: 0." in self.run()
        assert not AuditReport.objects.exists()

    def test_findings_are_its_exit_status(self, crm, tmp_path):
        crm.endpoints.get(position=1).delete()

        assert "webhooks.A014" in self.run()
        self.run(fail_on="never")
        with pytest.raises(SystemExit) as caught:
            self.run(fail_on="info", format="json", output=tmp_path / "a.json", keep=True)
        assert caught.value.code == 1
        assert json.loads((tmp_path / "a.json").read_text())["counts"]["info"] == 1
        assert AuditReport.objects.count() == 1

    def test_it_mails(self, crm, settings):
        settings.WEBHOOKS_NOTIFY_OPERATORS = ["ops@example.com"]

        self.run(mail=True)

        assert len(mail.outbox) == 1

    def test_the_trail_alone(self, crm):
        anchor = AuditHead.objects.get()

        assert "The audit trail holds" in self.run(verify=True, anchor=[str(anchor)])
        with pytest.raises(CommandError, match="not the one whose digest"):
            self.run(verify=True, anchor=[f"{anchor.sequence}:{'0' * 64}"])

    @pytest.mark.parametrize(
        ("tamper", "says"),
        [
            ("UPDATE django_webhooks_auditing_entry SET action='x' WHERE sequence=1", "is broken"),
            ("UPDATE django_webhooks_auditing_head SET mac='00000000:0'", "cannot be checked"),
            ("UPDATE django_webhooks_auditing_entry SET sequence=NULL, action='x' WHERE sequence=4",
             "is broken"),
        ],
    )  # fmt: skip
    def test_what_does_not_hold_is_its_exit_status(self, crm, tamper, says):
        with connection.cursor() as cursor:
            cursor.execute(tamper)

        with pytest.raises(CommandError, match=says) as caught:
            self.run(verify=True)
        assert caught.value.returncode == 1

    @pytest.mark.parametrize(
        "options",
        [
            {"anchor": ["7"]},
            {"accept": "webhooks.A999", "reason": "r"},
            {"accept": "webhooks.A001"},
            {"accept": "webhooks.A001", "reason": "r", "days": 0.0},
            {"accept": "webhooks.A001", "withdraw": "webhooks.A001"},
            {"mail": True},
            {"output": "/nowhere/at/all"},
        ],
    )
    def test_what_it_cannot_do_is_exit_status_2(self, crm, options):
        if "output" in options:
            options = {"output": Path(options["output"])}
        with pytest.raises(CommandError) as caught:
            self.run(**options)

        assert caught.value.returncode == 2

    def test_what_was_not_accepted_cannot_be_withdrawn(self):
        with pytest.raises(CommandError, match="was not accepted"):
            self.run(withdraw="webhooks.A001")

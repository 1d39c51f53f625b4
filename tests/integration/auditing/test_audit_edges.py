"""Audits at the edges: what was forged, what two workers do at once, what is in another place."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.core import mail
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.db import DatabaseError, models, transaction

from django_webhooks import audit_log
from django_webhooks.audit_log import EntryDraft
from django_webhooks.auditing import audit, chain, changes, mailing, permissions, rendering
from django_webhooks.auditing.models import AcceptedFinding, AuditEntry, AuditHead, AuditReport
from django_webhooks.exceptions import AppendOnly
from django_webhooks.models import Endpoint, Subscription
from django_webhooks.sending import notifications
from tests import factories, pages

pytestmark = pytest.mark.django_db(transaction=True)


def plain(model):
    """Write past the app."""
    return models.QuerySet(model)


def addresses():
    """Who is mailed."""
    return ["ops@example.com"]


@pytest.fixture
def forged():
    audit_log.log("x.done")
    plain(AuditEntry).bulk_create([AuditEntry(action="x.forged", mac="00000000")])


class TestTrail:
    def test_entries_that_somebody_else_wrote(self, forged):
        found = audit.run()

        assert [one.subject for one in found.findings if one.id == "webhooks.A021"] == [
            "trail:forged"
        ]
        assert "did not write" in rendering.text(audit.keep(found))
        with pytest.raises(CommandError, match="not written by the app"):
            call_command("webhooks_audit", verify=True)

    def test_a_seal_that_was_broken_once_is_told_until_it_is_accepted(self):
        audit_log.log("x.done")
        plain(AuditHead).update(mac="")
        audit_log.log("x.done")

        found = audit.run()

        assert found.verified.holds
        [one] = [one for one in found.findings if one.id == "webhooks.A021"]
        AcceptedFinding.objects.accept(*one.key, reason="a drill", days=1, by="ada")
        after = audit.keep(audit.run())
        assert "Accepted until" in rendering.text(after)
        assert "a drill" in rendering.html(after)

    @pytest.mark.parametrize(
        ("seal", "says"), [("00000000:0", "cannot be checked"), ("", "BROKEN")]
    )
    def test_what_is_said_of_a_trail_that_does_not_hold(self, seal, says, admin_client):
        audit_log.log("x.done")
        plain(AuditHead).update(mac=seal)

        report = audit.keep(audit.run())

        assert says in rendering.text(report)
        listed = admin_client.get(pages.url("auditreport")).content.decode()
        assert ("cannot be checked" if "cannot" in says else "broken") in listed

    def test_an_entry_moved_under_a_key_that_is_gone(self, settings):
        from django_webhooks import encryption

        settings.WEBHOOKS_ENCRYPTION_KEYS = [encryption.generate_key()]
        audit_log.log("x.done")
        audit_log.log("x.done")
        settings.WEBHOOKS_ENCRYPTION_KEYS = [encryption.generate_key()]
        plain(AuditEntry).filter(sequence=2).update(action="x.other")

        broken = chain.verify(using="default").broken

        assert broken is not None
        assert broken.fault is chain.Fault.CHANGED
        audit_log.log("x.done")
        with pytest.raises(CommandError, match="is broken"):
            call_command("webhooks_audit", verify=True)

    def test_entries_of_a_former_key_are_counted_by_the_command(self, settings, capsys):
        from django_webhooks import encryption

        settings.WEBHOOKS_ENCRYPTION_KEYS = [encryption.generate_key()]
        audit_log.log("x.done")
        settings.WEBHOOKS_ENCRYPTION_KEYS = [encryption.generate_key()]
        audit_log.log("x.done")

        call_command("webhooks_audit", verify=True)

        assert "1 entries rest on the chain alone" in capsys.readouterr().out
        found = [one for one in audit.run().findings if one.id == "webhooks.A022"]
        assert [one.severity.value for one in found] == ["warning", "info"]

    def test_a_made_up_key_does_not_hide_that_the_chain_was_cut(self):
        for _ in range(3):
            audit_log.log("x.done")
        kept = AuditEntry.objects.get(sequence=2).digest
        plain(AuditEntry).filter(sequence=3).delete()
        plain(AuditHead).update(sequence=2, digest=kept, mac="deadbeef:0")
        audit_log.log("x.done")

        found = [one for one in audit.run().findings if one.id == "webhooks.A022"]

        assert [one.subject for one in found] == ["trail:3"]

    def test_a_database_that_fails_after_the_commit_loses_nothing(self, monkeypatch, caplog):
        def fail(*args, **options):
            raise DatabaseError("gone")

        monkeypatch.setattr(chain, "_extend", fail)
        audit_log.log("x.done")
        monkeypatch.undo()

        assert "the sweep tries again" in caplog.text
        assert chain.extend(using="default") == 1

    def test_another_worker_was_faster(self, monkeypatch):
        audit_log.log("x.done")
        exists = models.QuerySet.exists
        answers = iter([True])
        monkeypatch.setattr(models.QuerySet, "exists", lambda rows: next(answers, exists(rows)))

        assert chain.extend(using="default") == 0

    def test_no_row_is_removed_past_the_manager(self):
        with pytest.raises(AppendOnly):
            AuditEntry.objects.all()._raw_delete("default")


class TestMailing:
    def test_addresses_may_be_named_by_a_path(self, settings):
        settings.WEBHOOKS_NOTIFY_OPERATORS = f"{__name__}.addresses"

        assert notifications.operators() == ["ops@example.com"]

    def test_what_another_worker_mails_is_left_to_it(self, settings, monkeypatch):
        settings.WEBHOOKS_NOTIFY_OPERATORS = addresses
        factories.subscription()
        report = audit.keep(audit.run())
        rows = type(AuditReport.objects.all())
        monkeypatch.setattr(rows, "to_be_mailed", lambda self: [report])
        AuditReport.objects.update(mailed_at=report.created_at)

        assert mailing.mail_news() == 0
        assert mail.outbox == []


class TestRules:
    def test_a_certificate_that_cannot_be_read_is_passed_over(self):
        factories.subscription()
        Endpoint.objects.update(client_certificate="nonsense")

        assert "webhooks.A025" not in {one.id for one in audit.run().findings}

    def test_without_subscriptions_nothing_has_to_run(self):
        assert "webhooks.A024" not in {one.id for one in audit.run().findings}

    def test_a_usual_day_and_a_short_past_are_nothing_to_tell(self):
        from django_webhooks import times
        from tests.integration.auditing.test_audit import rollup

        now = times.now()
        usual, short = factories.subscription(), factories.subscription(name="ERP")
        for day in range(5):
            rollup(usual, day, 30, now)
        rollup(short, 1, 900, now)

        assert "webhooks.A016" not in {one.id for one in audit.run(now=now).findings}


class TestAdmin:
    def test_a_report_that_is_gone(self, admin_client):
        report = audit.keep(audit.run())
        address = pages.url("auditreport", "accept", report.pk)
        report.delete()

        assert admin_client.get(address + "?finding=x&subject=y").status_code == 404

    def test_an_accepted_finding_has_a_page(self, admin_client):
        one = AcceptedFinding.objects.accept("webhooks.A001", reason="why not", days=1, by="ada")

        page = admin_client.get(pages.url("acceptedfinding", "change", one.pk)).content.decode()

        assert "why not" in page
        assert str(one) == "webhooks.A001"


class TestPermissionsElsewhere:
    def test_without_the_app_of_the_users_nothing_is_connected(self, monkeypatch):
        def fail():
            raise ImproperlyConfigured

        monkeypatch.setattr("django.contrib.auth.get_user_model", fail)

        permissions.connect()

    def test_users_of_another_database_are_noted_once_they_are_committed(self, monkeypatch):
        monkeypatch.setattr(permissions.router, "db_for_write", lambda model: "default")
        noted = []
        monkeypatch.setattr(
            permissions, "_try_to_note", lambda notes, using: noted.append((len(notes), using))
        )
        monkeypatch.setattr(
            permissions,
            "after_commit",
            lambda function, using: noted.append(using) or function() or True,
        )

        permissions._note([EntryDraft(action="x.done")], using="other")

        assert noted == ["other", (1, "default")]

    def test_users_can_be_changed_before_our_tables_are_there(self, monkeypatch, caplog):
        def fail(using):
            raise DatabaseError("no such table")

        monkeypatch.setattr(changes, "unguarded", fail)

        with transaction.atomic():
            User.objects.create_superuser("eve")

        assert User.objects.count() == 1
        assert "could not be noted" in caplog.text

    def test_what_has_nothing_to_do_with_webhooks_is_not_noted(self):
        user = User.objects.create_user("bob")
        group = Group.objects.create(name="other")
        user.user_permissions.add(Permission.objects.get(codename="add_logentry"))
        user.groups.add(group)
        group.delete()
        user.delete()

        assert not AuditEntry.objects.exists()


def test_a_fixture_that_is_loaded_is_noted_as_added(tmp_path):
    factories.subscription()
    file = tmp_path / "a.json"
    call_command("dumpdata", "django_webhooks.subscription", output=str(file))
    Subscription.objects.all().delete()

    call_command("loaddata", str(file), verbosity=0)

    assert AuditEntry.objects.filter(action="subscription.added").count() == 2

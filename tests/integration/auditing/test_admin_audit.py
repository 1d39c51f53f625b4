"""Audits in the admin: reports, the button, what is accepted, the chain on the trail's page."""

from __future__ import annotations

import pytest

from django_webhooks.auditing import audit
from django_webhooks.auditing.models import AcceptedFinding, AuditEntry, AuditReport
from tests import factories, pages

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def report():
    factories.subscription(name="<b>CRM</b>")
    return audit.keep(audit.run())


def named(report: AuditReport) -> dict[str, str]:
    found = next(one for one in report.findings if one["id"] == "webhooks.A001")
    return {"finding": found["id"], "subject": found["subject"]}


def test_a_report_is_listed_and_shown(admin_client, report):
    listed = admin_client.get(pages.url("auditreport")).content.decode()
    shown = admin_client.get(pages.url("auditreport", "change", report.pk)).content.decode()

    assert "Severe" in listed
    assert "webhooks.A001" in shown
    assert "&lt;b&gt;CRM&lt;/b&gt;: primary is called without TLS." in shown
    assert "<b>CRM" not in shown
    assert "The audit trail holds" in shown


def test_the_button_runs_an_audit(admin_client):
    factories.subscription()

    shown = admin_client.post(pages.url("auditreport", "run"), follow=True)

    assert AuditReport.objects.get().by == "admin"
    assert "webhooks.A001" in shown.content.decode()


def test_a_finding_is_accepted_and_withdrawn(admin_client, report):
    address = pages.url("auditreport", "accept", report.pk)
    asked = {"QUERY_STRING": "&".join(f"{k}={v}" for k, v in named(report).items())}

    page = admin_client.get(address, **asked)
    refused = admin_client.post(address, {"reason": "", "days": "0"}, **asked)
    admin_client.post(address, {"reason": "loopback", "days": "30"}, **asked)

    assert "is called without TLS" in page.content.decode()
    assert set(refused.context["form"].errors) == {"reason", "days"}
    assert AcceptedFinding.objects.get().by == "admin"
    after = audit.keep(audit.run())
    assert after.counts["accepted"] == 1
    shown = admin_client.get(pages.url("auditreport", "change", after.pk)).content.decode()
    assert "by admin: loopback" in shown
    assert "loopback" in admin_client.get(pages.url("acceptedfinding")).content.decode()

    admin_client.post(pages.url("auditreport", "withdraw", after.pk), named(after))
    again = admin_client.post(
        pages.url("auditreport", "withdraw", after.pk), named(after), follow=True
    )

    assert pages.messages_of(again)[-1] == "There is nothing to do."
    assert audit.run().counts["accepted"] == 0
    entries = AuditEntry.objects.filter(action__startswith="finding.").order_by("pk")
    assert list(entries.values_list("action", "by")) == [
        ("finding.accepted", "admin"),
        ("finding.withdrawn", "admin"),
    ]


def test_what_is_not_in_the_report_cannot_be_accepted(admin_client, report):
    address = pages.url("auditreport", "accept", report.pk)

    assert admin_client.get(address + "?finding=webhooks.A001&subject=x").status_code == 404
    assert admin_client.get(address.replace(str(report.pk), str(report.pk)[:-1] + "0")) is not None


@pytest.mark.parametrize(
    ("codenames", "view", "run", "accept"),
    [
        ((), 403, 403, 403),
        (("view_auditreport",), 200, 403, 403),
        (("view_auditreport", "run_audit"), 200, 302, 403),
        (("view_auditreport", "accept_finding"), 200, 403, 200),
        (("run_audit", "accept_finding"), 403, 403, 403),
    ],
)
def test_each_button_has_a_permission(client, report, codenames, view, run, accept):
    staff = pages.staff(client, *codenames)
    asked = {"QUERY_STRING": "&".join(f"{k}={v}" for k, v in named(report).items())}

    shown = staff.get(pages.url("auditreport", "change", report.pk))
    ran = staff.post(pages.url("auditreport", "run"))
    asked_for = staff.get(pages.url("auditreport", "accept", report.pk), **asked)

    assert (shown.status_code, ran.status_code, asked_for.status_code) == (view, run, accept)
    assert staff.get(pages.url("auditreport", "run")).status_code == 403
    if view == 200:
        assert ("Run the audit now" in shown.content.decode()) is (run == 302)
        assert ("/accept/" in shown.content.decode()) is (accept == 200)


def test_staff_of_a_tenant_see_no_report(admin_client, admin_user, settings, report):
    settings.WEBHOOKS_ADMIN_SCOPE = lambda request: [admin_user]

    assert admin_client.get(pages.url("auditreport")).status_code == 403
    assert admin_client.get(pages.url("acceptedfinding")).status_code == 403
    assert admin_client.get(pages.url("auditreport", "change", report.pk)).status_code == 403
    trail = admin_client.get(pages.url("auditentry")).content.decode()
    assert "The seal holds" not in trail


def test_the_page_of_the_trail_shows_the_chain(admin_client, report):
    entry = AuditEntry.objects.get(sequence=1)

    listed = admin_client.get(pages.url("auditentry")).content.decode()
    shown = admin_client.get(pages.url("auditentry", "change", entry.pk)).content.decode()

    assert "The seal holds" in listed
    assert f"{entry.digest[:8]}…" in listed
    assert f"1:{entry.digest}" in shown

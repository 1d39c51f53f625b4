"""Audits as staff use them: a real browser, a real server."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from .browser import Example, looking
from .harness import Harness, postgres_database

AUDITING = "django_webhooks_auditing"

pytestmark = [pytest.mark.acceptance, pytest.mark.browser, pytest.mark.postgres]


@pytest.mark.timeout(600)
def test_an_audit_from_the_button_to_what_is_accepted(tmp_path):
    shots = Path(os.environ.get("ADMIN_SCREENSHOTS", tmp_path / "screenshots"))
    with postgres_database() as database:
        harness = Harness(tmp_path, database=database, broker="memory://")
        (tmp_path / "example").mkdir()
        try:
            example = Example(harness)
            example.python(
                "from django_webhooks.models import Endpoint, Subscription\n"
                "made = Subscription(name='Warehouse with a long name', event_types=['*'])\n"
                "made.save()\n"
                "Endpoint.objects.create(subscription=made, url='http://127.0.0.1:9/hook')\n"
            )
            with looking(example.site, shots) as staff:
                _look(staff)
        finally:
            harness.close()


def _look(staff):
    page = staff.page
    staff.login()
    staff.go("auditreport/", app=AUDITING)
    staff.see("audit-reports-empty")

    page.get_by_role("button", name="Run the audit now").click()
    staff.wait_for("is called without TLS")
    staff.see("audit-report")

    finding = page.get_by_role("region", name="webhooks.A001")
    finding.get_by_role("link", name="Accept").click()
    staff.wait_for("What you accept does not count")
    staff.see("audit-accept")
    page.fill("#id_reason", "The receiver of the example listens on loopback.")
    page.get_by_role("button", name="Accept").click()
    staff.wait_for("by ada: The receiver of the example")
    page.get_by_role("button", name="Run the audit now").click()
    staff.wait_for("accepted: 1")
    staff.see("audit-report-accepted")
    staff.go("acceptedfinding/", app=AUDITING)
    staff.see("accepted-findings")
    page.go_back()
    page.get_by_role("button", name="Withdraw").click()
    staff.wait_for("Withdrawn")

    staff.go("auditreport/", app=AUDITING)
    staff.see("audit-reports")
    staff.go("auditentry/", app=AUDITING)
    staff.wait_for("The seal holds")
    page.get_by_text("The last digest").click()
    staff.see("audit-trail")
    page.locator("#result_list tbody a").first.click()
    staff.wait_for("Anchor")
    staff.see("audit-entry")

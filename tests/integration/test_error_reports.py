"""C10: no secret is in anything that a real SDK of Sentry sends, wherever a fault of ours is."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests import error_reports

pytestmark = [pytest.mark.alike, pytest.mark.timeout(600)]
#: More than the defaults: what leaves with these leaves with fewer of them, too.
OPTIONS = {
    "traces_sample_rate": 1.0,
    "send_default_pii": True,
    "attach_stacktrace": True,
    "max_request_body_size": "always",
    "max_value_length": 100_000,
}
#: Where faults are told in the row of an attempt, or in a line of the log without the error.
QUIET = (
    "django_webhooks.sending.http.transport.",
    "django_webhooks.sending.http.pools.",
    "django_webhooks.sending.http.channels.",
    "django_webhooks.policies.urls.",
    "django_webhooks.sending.attempts.masking._forms",
    "emit | django_webhooks.encryption.decrypt",
    "command webhooks_reencrypt | django_webhooks.encryption.decrypt",
    "socket.socket.connect",
)


@pytest.fixture(scope="module")
def reports():
    """Run all faults once, and return what was found for each."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.error_reports", json.dumps(OPTIONS)],
        capture_output=True,
        text=True,
        timeout=570,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_no_report_has_a_secret(reports):
    leaks = {fault: leaked for fault, (_, leaked) in reports.items() if leaked}

    assert leaks == {}


def test_each_fault_is_reported_all_the_same(reports):
    silent = [fault for fault, (count, _) in reports.items() if not count]

    assert [one for one in silent if not any(quiet in one for quiet in QUIET)] == []
    assert len(reports) == len(list(error_reports.plants()))

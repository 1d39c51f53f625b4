"""The audit of the example project: ten planted faults are found, and nothing else."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from django_webhooks import encryption

from .harness import PATIENCE

pytestmark = [pytest.mark.acceptance, pytest.mark.files]

ROOT = Path(__file__).parents[2]
NEW, OLD = encryption.generate_key(), encryption.generate_key()

#: Four subscriptions with which nothing is wrong.
IN_ORDER = """
from datetime import timedelta
from django_webhooks import times
from django_webhooks.models import Endpoint, EndpointHealth, Subscription
from django_webhooks.models.figures.heartbeat import Heartbeat
for name in ("CRM", "ERP", "Shop", "Mail"):
    made = Subscription(name=name, event_types=["order.*"])
    made.save()
    for position, host in enumerate(("one", "two")):
        url = f"https://{host}.{name.lower()}.example/hook"
        Endpoint.objects.create(subscription=made, url=url, position=position)
EndpointHealth.objects.update(succeeded_at=times.now())
for name in ("sweep", "check_health", "roll_up"):
    # Late enough for a machine that is busy.
    Heartbeat.objects.beat(name, now=times.now() + timedelta(minutes=5))
"""

#: Eight faults in rows; a network in the settings and a former key make ten.
FAULTS = """
from datetime import timedelta
from django.contrib.auth.models import Permission, User
from django_webhooks import times
from django_webhooks.models import Delivery, Endpoint, EndpointHealth, SigningKey, Subscription
from django_webhooks.audit_log import without_audit
from django_webhooks.sending import recording
from django_webhooks.sending.recording import Draft
now, day = times.now(), timedelta(days=1)
named = Subscription.objects.all()
crm, erp, mail, shop = sorted(named, key=lambda one: one.name)
crm.endpoints.get(position=1).delete()
Endpoint.objects.create(subscription=crm, url="http://clear.example/hook", position=1)    # 1
with without_audit():
    SigningKey.objects.filter(subscription=erp).update(created_at=now - 400 * day)       # 2
shop.pause("they move")
with without_audit():
    Subscription.objects.filter(pk=shop.pk).update(sending_changed_at=now - 30 * day)       # 3
EndpointHealth.objects.filter(endpoint=erp.endpoints.get(position=1)).update(
    state="unhealthy", failing_since=now - timedelta(hours=3), reason="timeout")          # 4
Endpoint.objects.create(subscription=mail, url="https://gone.mail.example/", position=2)
mail.endpoints.get(position=2).disable("410")                                             # 5
made = recording.record_for(mail, Draft(event_type="order.created", data={}), using="default")
Delivery.objects.filter(pk=made.pk).update(
    status="given_up", due_at=None, finished_at=now - 20 * day)                           # 6
user = User.objects.create_user("bob", is_active=False)
user.user_permissions.add(Permission.objects.get(codename="see_secret"))                  # 7
from django_webhooks.models.figures.heartbeat import Heartbeat
Heartbeat.objects.filter(pk="roll_up").update(at=now - day)                                     # 8
with without_audit():
    # A site that has just been set up misses nothing.
    Subscription.objects.update(created_at=now - timedelta(hours=1))
"""
FOUND = [
    ("webhooks.A001", "severe", "endpoint"),
    ("webhooks.A002", "warning", "subscription"),
    ("webhooks.A005", "severe", "network"),
    ("webhooks.A009", "warning", "endpoint"),
    ("webhooks.A010", "warning", "endpoint"),
    ("webhooks.A012", "warning", "subscription"),
    ("webhooks.A019", "warning", "key"),
    ("webhooks.A024", "severe", "task"),
    ("webhooks.A026", "warning", "subscription"),
    ("webhooks.A027", "info", "user"),
]


class Example:
    """The example project as production would have it, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.database = folder / "shop.sqlite3"
        self.environment = {
            "DJANGO_SETTINGS_MODULE": "example_project.settings",
            "EXAMPLE_DATA_DIR": str(folder),
            "DEBUG": "0",
            "WEBHOOKS_REQUIRE_HTTPS": "1",
            "WEBHOOKS_ALLOWED_NETWORKS": "",
            "WEBHOOKS_ALLOWED_PORTS": "443",
            "WEBHOOKS_ENCRYPTION_KEYS": OLD,
        }

    def manage(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-W", "ignore", "manage.py", *arguments],
            cwd=ROOT,
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )

    def python(self, code: str) -> None:
        ran = self.manage("shell", "--no-imports", "-c", code)
        assert ran.returncode == 0, ran.stderr

    def audit(self, *arguments: str) -> tuple[int, list[tuple[str, str, str]]]:
        ran = self.manage("webhooks_audit", "--format", "json", *arguments)
        assert ran.returncode in (0, 1), ran.stderr
        found = json.loads(ran.stdout)["findings"]
        told = [(one["id"], one["severity"], one["subject"].partition(":")[0]) for one in found]
        return ran.returncode, sorted(told)

    def sql(self, statement: str) -> None:
        """Write to the database past the app, as somebody who has no key would."""
        with sqlite3.connect(self.database) as connection:
            connection.execute(statement)
        connection.close()


@pytest.fixture
def example(tmp_path):
    made = Example(tmp_path)
    assert made.manage("migrate", "-v", "0").returncode == 0
    made.python(IN_ORDER)
    return made


@pytest.mark.timeout(600)
def test_ten_planted_faults_are_found_and_nothing_else(example):
    assert example.audit() == (0, [])

    example.python(FAULTS)
    example.environment["WEBHOOKS_ALLOWED_NETWORKS"] = "10.0.0.0/8"  # 9
    example.environment["WEBHOOKS_ENCRYPTION_KEYS"] = f"{NEW},{OLD}"  # 10

    assert example.audit() == (1, FOUND)
    # The trail is not part of it: its entries hold.
    assert example.manage("webhooks_audit", "--verify").returncode == 0


@pytest.mark.timeout(600)
def test_a_changed_row_of_the_trail_is_found(example):
    verified = example.manage("webhooks_audit", "--verify")
    anchor = re.search(r"\d+:[0-9a-f]{64}", verified.stdout)[0]

    example.sql("UPDATE django_webhooks_auditing_entry SET by = 'eve' WHERE sequence = 4")

    broken = example.manage("webhooks_audit", "--verify")
    assert (broken.returncode, "Entry 4 was changed" in broken.stderr) == (1, True)
    assert example.audit() == (1, [("webhooks.A021", "severe", "trail")])

    example.sql("DELETE FROM django_webhooks_auditing_entry")
    example.sql("DELETE FROM django_webhooks_auditing_head")

    # Without any of it left, only what was logged elsewhere tells.
    assert example.manage("webhooks_audit", "--verify").returncode == 0
    lost = example.manage("webhooks_audit", "--verify", "--anchor", anchor)
    assert (lost.returncode, "is not there" in lost.stderr) == (1, True)
    assert example.manage("webhooks_audit", "--accept", "nonsense").returncode == 2

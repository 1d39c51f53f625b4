"""A project that only sends: the core works without the inbox and without audits."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.receivers import receiving

BEGIN = """
import json, sys
import django
django.setup()
from django.core.management import call_command
from django.db import connection
from django.test import Client, override_settings
from tests.core_only import urls
said = {}
call_command("migrate", verbosity=0)
"""
END = """
for app in ("auditing", "inbox"):
    prefix = f"django_webhooks.{app}"
    assert not [one for one in sys.modules if one == prefix or one.startswith(f"{prefix}.")]
print(json.dumps(said))
"""
TABLES = """
said = [one for one in connection.introspection.table_names() if one.startswith("django_webhooks")]
"""
SENDING = """
from django_webhooks import events, tasks
from django_webhooks.models import Delivery, Endpoint, Subscription
opened = override_settings(WEBHOOKS_REQUIRE_HTTPS=False, WEBHOOKS_ALLOWED_NETWORKS=["127.0.0.0/8"])
with opened:
    one = Subscription.objects.create(name="CRM", event_types=["order.*"])
    Endpoint.objects.create(subscription=one, url=URL)
    events.emit("order.paid", {"total": "19.90"})
    tasks.deliver()
    one.signing_keys.model.objects.rotate(one, by="ada")
    one.pause("maintenance", by="ada")
    one.resume()
    tasks.sweep(); tasks.check_health(); tasks.roll_up(); tasks.prune()
    said = [[row.event.type, row.status] for row in Delivery.objects.all()]
"""
COSTS = """
from django.test.utils import CaptureQueriesContext
from django_webhooks.models import Subscription
one = Subscription.objects.create(name="CRM", event_types=["*"])
def count(function):
    with CaptureQueriesContext(connection) as context:
        function()
    verbs = ("SELECT", "INSERT", "UPDATE", "DELETE")
    return [query["sql"].split()[0] for query in context if query["sql"].startswith(verbs)]
said = [
    count(lambda: one.save(update_fields=["name"])),
    count(lambda: Subscription.objects.filter(pk=one.pk).update(name="ERP")),
]
"""
ADMIN = """
from django.contrib import admin
from django.contrib.auth.models import User
from django.urls import reverse
from django_webhooks.models import Subscription
row = Subscription.objects.create(name="CRM", event_types=["*"])
client = Client()
client.force_login(User.objects.create_superuser("ada"))
names = [
    f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist"
    for model in admin.site._registry if model._meta.app_label.startswith("django_webhooks")
]
paths = [reverse("admin:index"), *map(reverse, names)]
paths += [
    reverse("admin:django_webhooks_subscription_add"),
    reverse("admin:django_webhooks_subscription_change", args=[row.pk]),
    "/webhooks/metrics",
]
said = {path: client.get(path).status_code for path in paths}
metrics = client.get("/webhooks/metrics").content.decode()
assert "django_webhooks_deliveries_due" in metrics
assert "inbox" not in metrics and 'kind="audit"' not in metrics, metrics
"""
COMMANDS = """
from io import StringIO
from django.core.management import get_commands
call_command("check", deploy=True, tags=["webhooks"], fail_level="WARNING", stdout=StringIO())
call_command("makemigrations", check=True, dry_run=True, verbosity=0)
out = StringIO()
call_command("webhooks_health", stdout=out)
call_command("webhooks_prune", stdout=out)
assert "0 deliveries removed." in out.getvalue(), out.getvalue()
said = sorted(name for name, app in get_commands().items() if app.startswith("django_webhooks"))
"""
RECEIVING = """
def ask(path, token):
    return Client().post(
        path, {"type": "a.b"}, "application/json", headers={"authorization": f"Bearer {token}"}
    )
said = [ask("/each/", urls.SECRET).content.decode(), ask("/each/", "wrong").status_code]
"""
NEEDED = """
from django.core.checks import run_checks
from django.urls import clear_url_caches, path
urls.urlpatterns.append(path("once/", urls.once))
clear_url_caches()
said = [[one.id, one.msg] for one in run_checks(tags=["webhooks"])]
answer = Client(raise_request_exception=False).post(
    "/once/", {}, "application/json", headers={"authorization": f"Bearer {urls.SECRET}"}
)
said.append(answer.status_code)
"""


@pytest.fixture
def project(tmp_path):
    """Return what runs code in the project, and returns what it said."""

    def run(code: str, **names: str):
        given = "".join(f"{name} = {value!r}\n" for name, value in names.items())
        ran = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", BEGIN + given + code + END],
            env={
                **os.environ,
                "DJANGO_SETTINGS_MODULE": "tests.core_only.settings",
                "CORE_ONLY_DATABASE": str(tmp_path / "core.sqlite3"),
            },
            capture_output=True,
            text=True,
            timeout=110,
        )
        assert ran.returncode == 0, ran.stderr
        return json.loads(ran.stdout.splitlines()[-1])

    return run


def test_the_tables_are_those_of_sending(project):
    names = {one.removeprefix("django_webhooks_") for one in project(TABLES)}

    assert {"subscription", "event", "delivery", "attempt"} <= names
    assert len(names) <= 15
    assert not [one for one in names if one.startswith(("audit", "accepted", "inbox", "network"))]


def test_webhooks_are_sent(project):
    with receiving() as receiver:
        said = project(SENDING, URL=receiver.url)

    assert said == [["order.paid", "succeeded"]]
    assert len(receiver.requests) == 1


def test_changes_cost_nothing_for_a_trail_that_nobody_keeps(project):
    assert project(COSTS) == [["UPDATE"], ["UPDATE"]]


def test_pages_of_the_admin_are_answered(project):
    said = project(ADMIN)

    assert set(said.values()) == {200}
    assert len(said) > 8


def test_checks_and_commands_miss_nothing(project):
    said = project(COMMANDS)

    assert "webhooks_health" in said
    assert not {"webhooks_audit", "webhooks_networks"} & {*said}


def test_a_view_that_keeps_nothing_needs_no_inbox(project):
    assert project(RECEIVING) == ["a.b", 401]


def test_what_needs_an_app_says_which(project):
    (id, message), answer = project(NEEDED)

    assert id == "webhooks.E201"
    assert "'once/' handles each message once" in message
    # Not handled, and to be repeated.
    assert answer == 500

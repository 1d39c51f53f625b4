"""A schema for each tenant, with the real django-tenants: what one remembers mutes no other."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from django_webhooks.checks.databases import check_schemas
from tests.acceptance.harness import postgres_database
from tests.receivers import Receiver

pytestmark = [
    pytest.mark.postgres,
    pytest.mark.alike,
    pytest.mark.skipif(
        not importlib.util.find_spec("django_tenants"), reason="needs django-tenants"
    ),
]
ROOT = Path(__file__).parent.parent.parent

SCRIPT = """
import json, sys
import django
django.setup()
from celery import Celery
app = Celery("tenants")
app.config_from_object("django.conf:settings", namespace="CELERY")
from django.core.management import call_command
call_command("migrate_schemas", schema_name="public", verbosity=0)
from django_tenants.utils import get_public_schema_name, get_tenant_model, tenant_context
from django_webhooks import tasks
from django_webhooks.events import emit
from django_webhooks.models import Delivery, Endpoint, Event, Subscription
from django_webhooks.models.figures.heartbeat import Heartbeat
from django_webhooks.inbox import network_lists
from tests.tenants.models import Domain, Tenant
from django.db import connection
with connection.schema_editor() as editor:
    for model in (Tenant, Domain):
        editor.create_model(model)
alpha = Tenant.objects.create(schema_name="alpha", name="Alpha")
beta = Tenant.objects.create(schema_name="beta", name="Beta")
url = sys.argv[1]

def subscribe(**fields):
    made = Subscription.objects.create(name="test", event_types=["order.*"], **fields)
    Endpoint.objects.create(subscription=made, url=url)

found = {}
"""
IN_TENANTS = """
def count(tenant):
    with tenant_context(tenant):
        return Event.objects.count()

with tenant_context(beta):
    subscribe()
# The quiet one is asked first and again and again.
for number in range(3):
    with tenant_context(alpha):
        emit("order.paid", {"number": number})
    with tenant_context(beta):
        emit("order.paid", {"number": number})
found["events"] = [count(alpha), count(beta)]
# The busy one is asked first.
with tenant_context(alpha):
    subscribe()
    emit("order.sent", {})
with tenant_context(beta):
    Subscription.objects.all().delete()
    emit("order.sent", {})
    subscribe()
    emit("order.sent", {})
found["after"] = [count(alpha), count(beta)]
for tenant in (alpha, beta):
    with tenant_context(tenant):
        tasks.heartbeat.beat("sweep")
with tenant_context(alpha):
    network_lists.store("github", ["192.0.2.0/24"], origin="test", by="ann")
    found["lists"] = [network_lists.of("github")]
with tenant_context(beta):
    found["lists"].append(network_lists.of("github"))
found["heartbeats"] = []
for tenant in (alpha, beta):
    with tenant_context(tenant):
        found["heartbeats"].append(Heartbeat.objects.filter(pk="sweep").count())
        found.setdefault("due", []).append(Event.objects.waiting().count())

RECIPE
webhooks_of_tenants()
found["sent"] = []
for tenant in (alpha, beta):
    with tenant_context(tenant):
        found["sent"].append(Delivery.objects.filter(status="succeeded").count())
tasks.sweep()
found["public"] = Delivery.objects.count()
print(json.dumps(found))
"""
SHARED = """
subscribe(owner=beta)
for number in range(3):
    for tenant in (alpha, beta):
        with tenant_context(tenant):
            from django.db import connection
            emit("order.paid", {"number": number}, owner=connection.tenant)
found["events"] = Event.objects.count()
from django_webhooks.sending import worker
worker.drain([])
found["sent"] = Delivery.objects.filter(status="succeeded").count()
print(json.dumps(found))
"""


def run(whose, *, script, url):
    with postgres_database() as database:
        ended = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", SCRIPT + script, url],
            env={
                **os.environ,
                "DJANGO_SETTINGS_MODULE": "tests.tenants.settings",
                "TENANTS_DATABASE": database,
                "TENANTS_WEBHOOKS": whose,
            },
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=110,
        )
    return ended


def told(ended):
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout.splitlines()[-1])


def recipe():
    """Return the task of the documentation."""
    page = (ROOT / "docs/howto/works-with.md").read_text()
    return page.partition("<!-- recipe: tenants -->\n```python\n")[2].partition("```")[0]


def test_tenants_of_their_own_schemas_do_not_hear_of_each_other():
    with contextlib.closing(Receiver()) as receiver:
        script = IN_TENANTS.replace("RECIPE", recipe())
        found = told(run("both", script=script, url=receiver.url))

    assert found == {
        "events": [0, 3],
        "after": [1, 4],
        "lists": [["192.0.2.0/24"], None],
        "heartbeats": [1, 1],
        "due": [1, 4],
        # Who subscribes before a worker comes to an event is sent it.
        "sent": [1, 4],
        "public": 0,
    }
    assert len(receiver.requests) == 1 + 4


def test_shared_tables_tell_tenants_apart_by_their_owner():
    with contextlib.closing(Receiver()) as receiver:
        found = told(run("shared", script=SHARED, url=receiver.url))

    assert found == {"events": 3, "sent": 3}


@pytest.mark.parametrize(
    ("shared", "own", "is_told"),
    [
        ([], ["django_webhooks"], True),
        (["shop"], ["django_webhooks.apps.WebhooksConfig"], True),
        (["django_webhooks"], ["django_webhooks"], False),
        (["django_webhooks"], [], False),
        ([], [], False),
    ],
)
def test_tables_that_no_worker_finds_are_told_of(settings, shared, own, is_told):
    settings.SHARED_APPS, settings.TENANT_APPS = shared, own

    assert [one.id for one in check_schemas()] == ["webhooks.E131"] * is_told

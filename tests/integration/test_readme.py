"""The README's quickstart does what it says, word for word."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

import pytest
from django.test import override_settings

from django_webhooks import hooks, signing
from django_webhooks.models import Delivery, Endpoint, Subscription
from django_webhooks.sending import worker
from tests.factories import Clock
from tests.receivers import receiving
from tests.testapp import models as testapp

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
QUICKSTART = (ROOT / "docs/quickstart.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"<!-- quickstart: ([\w.]+) -->\n```\w+\n.+?```\n", re.S)


def block(name):
    """Return the code that follows a comment in the README."""
    return re.search(rf"<!-- {name} -->\s*```\w*\n(.+?)```", README, re.S)[1]


BLOCKS = [block(f"quickstart: {name}") for name in ("settings", "webhooks.py", "subscribe")]


def test_the_quickstart_is_short():
    lines = [line for code in BLOCKS for line in code.splitlines() if line.strip()]

    assert len(lines) <= 25


@pytest.mark.django_db
def test_the_quickstart_sends_a_signed_webhook(monkeypatch):
    # The README's shop is the app of the tests.
    shop = types.ModuleType("shop")
    monkeypatch.setitem(sys.modules, "shop", shop)
    monkeypatch.setitem(sys.modules, "shop.models", testapp)
    configured = {"INSTALLED_APPS": []}
    exec(BLOCKS[0], configured)
    assert configured["INSTALLED_APPS"] == ["django_webhooks"]

    beat = {name: configured[name] for name in ("CELERY_BEAT_SCHEDULE", "CELERY_TASK_ROUTES")}
    with override_settings(**beat), receiving(204) as receiver:
        exec(BLOCKS[1], {})
        try:
            exec(BLOCKS[2], {})
            Endpoint.objects.update(url=receiver.url)
            testapp.Order.objects.create(number="A-1")
            worker.drain(clock=Clock())
        finally:
            hooks.unregister(testapp.Order)

    [request] = receiver.requests
    secret = Subscription.objects.get().signing_secret
    signing.verify(secrets=[secret], headers=request.headers, body=request.body)
    assert Delivery.objects.get().status == "succeeded"


def test_both_quickstarts_have_the_same_blocks_in_the_same_order():
    in_readme, in_docs = ([one[0] for one in BLOCK.finditer(text)] for text in (README, QUICKSTART))

    assert in_readme == in_docs
    assert len(in_readme) == 8


def test_the_key_is_made_before_anybody_is_subscribed():
    names = [one[1] for one in BLOCK.finditer(README)]

    assert names.index("keys") < names.index("subscribe")


def test_the_excerpt_of_the_demo_goes_forward_in_time():
    excerpt = README.partition("Starting a site")[2].partition("```")[0]
    moments = [float(one) for one in re.findall(r"^ *([0-9]+\.[0-9]) s", excerpt, re.M)]

    assert len(moments) > 10
    assert moments == sorted(moments)


def test_the_readme_names_the_commands_that_ci_runs():
    assert "manage.py demo" in block("command: demo")
    assert "tox run -e test" in block("command: test")

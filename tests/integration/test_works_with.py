"""The recipes of the page on what works with this app."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest
from asgiref.sync import sync_to_async

from django_webhooks import tasks
from django_webhooks.events import emit
from django_webhooks.models import Delivery, Event
from tests import factories
from tests.receivers import Receiver

pytestmark = pytest.mark.django_db(transaction=True)
PAGE = Path(__file__).parent.parent.parent / "docs/howto/works-with.md"


def recipe(name):
    return (
        PAGE.read_text().partition(f"<!-- recipe: {name} -->\n```python\n")[2].partition("```")[0]
    )


def test_a_cron_job_sends_without_a_worker(settings, monkeypatch):
    settings.WEBHOOKS_ALLOW_UNKNOWN_EVENT_TYPES = True
    for task in (tasks.deliver, tasks.notify):
        monkeypatch.setattr(task, "apply_async", lambda **how: None)
    names = {}
    exec(recipe("cron"), names)
    with contextlib.closing(Receiver()) as receiver:
        factories.subscription(url=receiver.url)
        factories.record()

        names["Command"]().handle()

    assert len(receiver.requests) == 1
    assert set(Delivery.objects.values_list("status", flat=True)) == {"succeeded"}


@pytest.mark.alike
def test_emit_is_awaited_by_sync_to_async(settings):
    settings.WEBHOOKS_ALLOW_UNKNOWN_EVENT_TYPES = True
    factories.subscription()

    asyncio.run(sync_to_async(emit)("order.paid", {"id": 1}))

    assert Event.objects.count() == 1

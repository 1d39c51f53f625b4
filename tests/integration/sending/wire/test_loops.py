"""U48: webhooks that cause webhooks do not go round for ever."""

from __future__ import annotations

import pytest

from django_webhooks import events, replays
from django_webhooks.models import Delivery, Event
from django_webhooks.sending import worker
from django_webhooks.sending.wire import loops
from tests import factories
from tests.factories import Clock
from tests.receivers import receiving

pytestmark = pytest.mark.django_db


def test_u48_a_loop_ends_and_says_so(monkeypatch, caplog):
    monkeypatch.setattr(loops, "MAX_HOPS", 3)
    clock = Clock()
    with receiving(204) as receiver:
        factories.subscription(url=receiver.url)
        events.emit("order.paid", {"id": 1})
        for number in range(10):
            worker.drain(clock=clock)
            if len(receiver.requests) == number:
                break
            # The project receives its own webhook, and tells of it again.
            with events.handling(receiver.requests[-1].headers):
                events.emit("order.paid", {"id": number})

    assert len(receiver.requests) == 4
    assert [one.headers.get("webhook-hops") for one in receiver.requests] == [None, "1", "2", "3"]
    last = Delivery.objects.order_by("pk").last()
    assert (last.status, last.reason, last.due_at) == ("given_up", "loop", None)
    assert "4 webhooks led to it" in last.explain()
    assert any("is not sent" in one for one in caplog.messages)
    assert Event.objects.count() == 5


def test_what_was_not_sent_can_be_replayed(monkeypatch):
    monkeypatch.setattr(loops, "MAX_HOPS", 1)
    with receiving(204) as receiver:
        factories.subscription(url=receiver.url)
        with events.handling({"webhook-hops": "1"}):
            events.emit("order.paid", {"id": 1})
        factories.fan_out()
        replays.replay(Delivery.objects.all(), using="default")
        worker.drain(clock=Clock())

    assert len(receiver.requests) == 1


@pytest.mark.parametrize(
    ("headers", "count"),
    [
        ({}, 1),
        ({"webhook-hops": "2"}, 3),
        ({"Webhook-Hops": "2"}, 3),
        ({"webhook-hops": "-1"}, 1),
        ({"webhook-hops": "²"}, 1),
        ({"webhook-hops": "9" * 5}, 1),
    ],
)
def test_hops_are_counted_from_what_came(headers, count):
    with loops.handling(headers):
        assert loops.current() == count
    assert loops.current() == 0

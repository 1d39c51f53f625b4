"""Runs that are cut off, and runs that somebody waits for."""

from __future__ import annotations

import threading
import time

import pytest
from celery.exceptions import SoftTimeLimitExceeded

from django_webhooks import tasks
from django_webhooks.models import Attempt, Delivery
from django_webhooks.sending import worker
from django_webhooks.sending.worker.executor import Executor
from tests import factories
from tests.receivers import Answer, receiving

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize(
    "kind", [SoftTimeLimitExceeded, KeyboardInterrupt, SystemExit, MemoryError]
)
@pytest.mark.parametrize("after", [5, 25])
def test_what_was_sent_is_recorded_whatever_ends_the_run(kind, after, monkeypatch):
    """The run is cut off where it mostly is: while it waits for answers."""
    collect, raised = Executor.collect, threading.Event()

    def cut_off(self, **how):
        if len(receiver.requests) >= after and not raised.is_set():
            raised.set()
            raise kind
        return collect(self, **how)

    monkeypatch.setattr(Executor, "collect", cut_off)
    # However late the run looks, no more are begun until then than may be under way.
    held = Answer(204, delay=0.1, gate=lambda: raised.wait(14))
    with receiving(*[Answer(204, delay=0.1)] * (after - 1), held) as receiver:
        factories.subscription(url=receiver.url)
        for number in range(60):
            factories.record(data={"id": number})
        with pytest.raises(kind):
            worker.drain()
        sent = len(receiver.requests)

        assert 0 < sent < 60
        assert Attempt.objects.count() == sent
        assert Delivery.objects.succeeded().count() == sent

        worker.drain()

        assert sorted(receiver.ids) == sorted(set(receiver.ids))
        assert len(receiver.ids) == 60


def test_an_eager_run_sends_its_own_deliveries_alone():
    """A save with CELERY_TASK_ALWAYS_EAGER, while 200 others are due at a slow receiver."""
    with receiving(Answer(204, delay=0.5)) as receiver:
        factories.subscription(url=receiver.url)
        for number in range(200):
            factories.record(data={"id": number})
        [mine] = factories.record(data={"id": "mine"})
        began = time.monotonic()

        tasks.deliver.apply(args=([str(mine.pk)],)).get()

        # The others would take 12 seconds or more.
        assert time.monotonic() - began < 10
        assert receiver.ids == [mine.message_id]
    assert Delivery.objects.succeeded().count() == 1


def test_an_eager_run_fails_over_at_once_and_no_further():
    with receiving(500) as primary, receiving(Answer(500)) as backup:
        subscription = factories.subscription(url=primary.url, failover="each")
        subscription.endpoints.create(url=backup.url, position=1)
        [mine] = factories.record()

        tasks.deliver.apply(args=([str(mine.pk)],)).get()

        assert len(primary.requests) == 1
        assert len(backup.requests) <= 1

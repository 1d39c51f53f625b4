"""F15, F17: beat and the clocks of others than the database."""

from __future__ import annotations

import signal
import time

import pytest

from tests.acceptance.conftest import RABBITMQ, REDIS
from tests.acceptance.harness import until

from .conftest import FAULTS, campaign

pytestmark = [
    *FAULTS,
    pytest.mark.campaign,
    pytest.mark.stacks(campaign(REDIS), campaign(RABBITMQ)),
]

HOUR, MINUTE = 3600, 60
#: 60 sweeps are 10 minutes of the default interval, for which a beat is dead.
QUICK = 0.25


def schedule(seconds):
    """Return a schedule whose sweep runs each so many seconds."""
    task = "django_webhooks.tasks.sweep"
    return {"CELERY_BEAT_SCHEDULE": {"sweep": {"task": task, "schedule": seconds}}}


def test_f15_a_beat_that_is_dead_for_sixty_sweeps(harness, receiver, account):
    harness.settings |= schedule(QUICK)
    harness.subscribe(receiver.url)
    harness.worker()
    harness.web()
    beat = harness.beat()
    harness.stop(beat, signal.SIGKILL)

    began = time.monotonic()
    harness.emit(50)
    for number in range(10):
        assert harness.ask(f"told {number}")
    until(lambda: len(receiver.requests) >= 10, "what was told did not arrive")
    time.sleep(max(0.0, began + 60 * QUICK - time.monotonic()))
    harness.beat()
    account.clear()

    account.settle()


def test_f15_two_beats(harness, receiver, account):
    harness.settings |= schedule(QUICK)
    harness.subscribe(receiver.url)
    harness.worker()
    harness.beat()
    harness.beat()
    harness.emit(200)
    account.clear()

    account.settle()


@pytest.mark.parametrize("shift", [HOUR, -HOUR])
def test_f15_a_beat_whose_clock_is_an_hour_off(harness, receiver, account, shift):
    harness.subscribe(receiver.url)
    harness.worker()
    harness.beat(shift=shift)
    harness.emit(50)
    account.clear()

    account.settle()


@pytest.mark.parametrize("shift", [HOUR, -HOUR])
def test_f15_a_beat_whose_clock_is_set_right(harness, receiver, account, shift, tmp_path):
    """Its file says when it last ran: in an hour."""
    harness.settings |= {"CELERY_BEAT_SCHEDULE_FILENAME": str(tmp_path / "beat")}
    harness.subscribe(receiver.url)
    harness.worker()
    beat = harness.beat(shift=shift)
    harness.emit(5)
    until(lambda: len(receiver.requests) == 5, "the wrong beat did nothing")
    harness.stop(beat)

    harness.beat()
    harness.emit(50)
    account.clear()

    account.settle()


@pytest.mark.parametrize("shift", [5 * MINUTE, -5 * MINUTE])
def test_f17_a_worker_whose_clock_is_five_minutes_off(harness, receiver, account, shift):
    """Beside one whose clock is right. Signatures are older or newer than 5 minutes to nobody."""
    harness.subscribe(receiver.url)
    harness.worker(shift=shift)
    harness.worker()
    harness.web()
    harness.beat()
    harness.emit(300)
    for number in range(10):
        harness.ask(f"thing {number}")
    account.clear()

    account.settle(extra=10)
    moments = [float(one.headers["webhook-timestamp"]) for one in receiver.requests]
    assert max(moments) - min(moments) < MINUTE
    assert abs(time.time() - max(moments)) < MINUTE

"""Runs that a signal ends, at any moment of theirs: what was sent is recorded, once."""

from __future__ import annotations

import os
import random
import signal
import sys
from contextlib import contextmanager

import pytest
from celery.exceptions import SoftTimeLimitExceeded
from django.db import connection

from django_webhooks.models import Attempt, Delivery
from django_webhooks.sending import worker
from tests import factories
from tests.receivers import Answer, receiving

pytestmark = pytest.mark.django_db(transaction=True)

EVENTS = 8
#: Moments of a run that are tried for each signal: any, and those at which C has a lock, a socket
#: or a statement, which are few.
MOMENTS = {"any": 8, "delicate": 16}
DELICATE = ("acquire", "release", "execute", "query", "fetch", "result", "commit", "wait", "send")
#: As billiard raises the soft limit of Celery, and the end of a process; and Python Ctrl+C.
KINDS = {
    signal.SIGUSR1: SoftTimeLimitExceeded,
    signal.SIGTERM: SystemExit,
    signal.SIGINT: KeyboardInterrupt,
}


@contextmanager
def raising(number):
    """Have a handler that raises, as those of workers do, in the main thread."""

    def handle(*_):
        raise KINDS[number]

    before = signal.signal(number, handle)
    try:
        yield
    finally:
        signal.signal(number, before)


class Moments:
    """Counts calls of the main thread, of C and of Python, and their ends; interrupts one of them.

    ``which`` says which are counted; a signal comes at the one with the number ``at``.
    """

    def __init__(self, which, *, at=None, signal=None):
        self.which, self.at, self.signal = which, at, signal
        self.seen, self.where = 0, "never"

    def __call__(self, frame, event, argument):
        name = getattr(argument, "__name__", "") if event.startswith("c_") else ""
        if self.which == "delicate" and not any(word in name for word in DELICATE):
            return
        self.seen += 1
        if self.seen == self.at:
            self.where = f"{event} {name} in {frame.f_code.co_name}:{frame.f_lineno}"
            signal.raise_signal(self.signal)

    def run(self):
        """Make one run, and return the error that ended it."""
        sys.setprofile(self)
        try:
            worker.drain()
        except BaseException as error:
            return error
        finally:
            sys.setprofile(None)
        return None


def record(receiver):
    Delivery.objects.all().delete()
    receiver.requests.clear()
    for number in range(EVENTS):
        factories.record(data={"id": number})


def check(receiver, error, kind, where):
    """All that arrived is recorded, and the next run sends the rest."""
    assert error is None or type(error) is kind, where
    sent = len(receiver.requests)
    assert Attempt.objects.count() == sent, where
    assert Delivery.objects.succeeded().count() == sent, where
    assert not connection.in_atomic_block, where

    Delivery.objects.waiting().update(lease_token=None, due_at="2020-01-01T00:00Z")
    worker.drain()

    assert len(receiver.ids) == len(set(receiver.ids)) == EVENTS, where


@pytest.mark.parametrize("which", MOMENTS)
@pytest.mark.parametrize("number", KINDS, ids=lambda number: KINDS[number].__name__)
def test_a_run_may_be_ended_at_any_moment(number, which):
    seed = int(os.environ.get("MOMENTS_SEED") or random.randrange(10**6))
    chance, count = random.Random(seed), MOMENTS[which]
    with receiving(Answer(204, delay=0.01)) as receiver, raising(number):
        factories.subscription(url=receiver.url)
        seen = []
        # A busy machine makes a run longer, and never shorter.
        for _ in range(3):
            record(receiver)
            whole = Moments(which)
            assert whole.run() is None
            seen.append(whole.seen)
        ended = 0
        for at in chance.sample(range(1, min(seen)), count):
            record(receiver)
            moments = Moments(which, at=at, signal=number)

            error = moments.run()

            where = f"MOMENTS_SEED={seed}, {at} of {min(seen)} {which}: {moments.where}"
            check(receiver, error, KINDS[number], where)
            ended += error is not None
    # Some moments come after the end of a run that was quicker than the first.
    assert ended >= count / 2

"""Limits with several workers at once, in real time, measured where the requests arrive."""

from __future__ import annotations

import threading
import time

import pytest
from django.db import connection

from django_webhooks.models import Delivery, Subscription
from django_webhooks.models.rate_limit_state import RateLimitState
from django_webhooks.sending import limits, worker
from django_webhooks.sending.database import DatabaseClock
from tests import factories
from tests.receivers import Answer, receiving
from tests.timing import stalls
from tests.timing import until as wait_until

pytestmark = pytest.mark.django_db(transaction=True)

#: Seconds by which one request may take longer to arrive than another.
JITTER = 0.3


def work(count, *, until, seconds=80.0):
    """Have so many workers drain until the condition holds."""
    ends = time.monotonic() + seconds
    errors = []

    def drain():
        try:
            while not until() and time.monotonic() < ends:
                worker.drain()
                time.sleep(0.02)
        except Exception as error:
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=drain) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds + 30)
    assert errors == []


def most_at_once(receiver):
    spans = [(one.at, one.answered_at or float("inf")) for one in receiver.requests]
    return max(sum(began <= at < ended for began, ended in spans) for at, _ in spans)


def test_three_workers_keep_to_a_rate_and_reach_it():
    rate, count = 20, 80
    with receiving(204) as receiver:
        factories.subscription(url=receiver.url, rate_limit_per_second=rate)
        for number in range(count):
            factories.record(data={"id": number})
        with stalls() as late:
            work(3, until=lambda: len(receiver.requests) >= count)
        times = sorted(one.at for one in receiver.requests)

    assert len(set(receiver.ids)) == len(receiver.ids) == count
    for first in range(count):
        for last in range(first, count):
            allowed = rate + rate * (times[last] - times[first] + JITTER + late.longest)
            assert last - first + 1 <= allowed
    ideal = (count - rate) / rate
    took = times[-1] - times[0]
    assert ideal - JITTER - late.longest <= took <= ideal * 1.1 + 0.5 + 10 * late.total


def test_one_run_goes_on_with_what_found_no_place_in_its_process_at_first():
    with receiving(204) as receiver:
        factories.subscription(url=receiver.url, rate_limit_per_second=20)
        for number in range(24):
            factories.record(data={"id": number})
        # The burst is 20, of which one process takes a few at a time.
        drained = worker.drain()

    assert drained.attempts == len(receiver.ids) == 24


def test_three_workers_never_have_more_in_flight_than_allowed(settings):
    settings.WEBHOOKS_TIMEOUT_SECONDS = 50.0
    count = 40

    def two_are_there():
        wait_until(lambda: len(receiver.requests) >= 2)

    first = Answer(204, delay=0.05, gate=two_are_there)
    with receiving(first, Answer(204, delay=0.05)) as receiver:
        factories.subscription(url=receiver.url, max_in_flight=2)
        for number in range(count):
            factories.record(data={"id": number})
        # No sweep runs here: what the end of another does not release never arrives.
        work(3, until=lambda: len(receiver.requests) >= count)

    assert len(set(receiver.ids)) == len(receiver.ids) == count
    assert most_at_once(receiver) == 2
    assert set(Delivery.objects.values_list("status", flat=True)) == {"succeeded"}


def test_limits_that_change_while_workers_work():
    count = 150
    with receiving(Answer(204, delay=0.01)) as receiver:
        made = factories.subscription(url=receiver.url, rate_limit_per_second=5, max_in_flight=1)
        for number in range(count):
            factories.record(data={"id": number})

        ends = time.monotonic() + 80

        def change():
            try:
                for fields in (
                    {"rate_limit_per_second": 50, "max_in_flight": None},
                    {"rate_limit_per_second": None, "max_in_flight": 2},
                    {"rate_limit_per_second": 1, "max_in_flight": 3},
                    {"rate_limit_per_second": None, "max_in_flight": None},
                ):
                    time.sleep(0.7)
                    Subscription.objects.filter(pk=made.pk).update(**fields)
                    limits.nudge(now=DatabaseClock(using="default")(), using="default")
                # As the sweep does: a worker may have read the limits before they were lifted, and
                # hold by them afterwards.
                while len(receiver.requests) < count and time.monotonic() < ends:
                    time.sleep(0.5)
                    limits.nudge(now=DatabaseClock(using="default")(), using="default")
            finally:
                connection.close()

        changing = threading.Thread(target=change)
        changing.start()
        work(2, until=lambda: len(receiver.requests) >= count)
        changing.join()
        limits.nudge(now=DatabaseClock(using="default")(), using="default")

    assert len(set(receiver.ids)) == len(receiver.ids) == count
    assert RateLimitState.objects.get().released_through is None

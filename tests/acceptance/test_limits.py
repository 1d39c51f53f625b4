"""Limits of a subscription with two real workers, measured where the requests arrive."""

from __future__ import annotations

import signal
import time
from itertools import pairwise

import pytest

from django_webhooks.sending.worker.pacing import STALE
from tests.receivers import Answer
from tests.timing import stalls

from .conftest import REDIS
from .harness import until

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(600), pytest.mark.stacks(REDIS)]
#: Seconds by which one request may take longer to arrive than another: a process that stands still
#: sends for so long what it was let go before.
JITTER = STALE + 0.15
#: Seconds for which one process may stand still, unseen by the others.
STILL = 3.0
#: Requests that one process has under way at once.
UNDER_WAY = 8


def most_at_once(requests) -> int:
    """Return how many requests were under way at once for sure, as the receiver saw them.

    Their senders know the answers before a receiver can note when it gave them.
    """
    spans = [(one.at, one.at + one.answer.delay) for one in requests]
    return max(sum(began <= at < ended for began, ended in spans) for at, _ in spans)


def excess(times: list[float], *, rate: float, jitter: float) -> float:
    """Return by how many requests the worst stretch of time is above the burst and the rate."""
    burst = max(1.0, rate)
    return max(
        (last - first + 1) - (burst + rate * (times[last] - times[first] + jitter))
        for first in range(len(times))
        for last in range(first, len(times))
    )


@pytest.mark.essential
@pytest.mark.parametrize(
    ("rate", "count", "others"), [(20, 200, {}), (40, 400, {"max_in_flight": 6})]
)
def test_two_workers_keep_to_a_rate_and_reach_it(harness, receiver, rate, count, others):
    receiver.answers = [Answer(204, delay=0.02 if others else 0.0)]
    harness.subscribe_pair(receiver.url, rate_limit_per_second=float(rate), **others)
    harness.emit(count)
    harness.worker()
    harness.worker()
    harness.beat()
    until(lambda: receiver.requests, "nothing arrived")

    with stalls() as late:
        until(lambda: len(receiver.requests) >= count, "not everything arrived")

    times = sorted(one.at for one in receiver.requests)
    gap = max(later - earlier for earlier, later in pairwise(times))
    took, ideal = times[-1] - times[0], (count - rate) / rate
    jitter = JITTER + late.longest
    above = excess(times, rate=rate, jitter=jitter)
    print(
        f"\n{count} requests in {took:.2f} s (at the least {ideal:.2f}), excess {above:.1f}, "
        f"longest gap {gap:.2f} s, stalls {late.total:.2f} s, {late.longest:.2f} s at the most"
    )
    assert len(set(receiver.ids)) == len(receiver.ids) == count
    # What a process had begun to send when it stood still comes when it goes on.
    assert above <= UNDER_WAY
    assert took >= ideal - jitter
    # A request waits for its turn in the worker, in the database and in the receiver.
    assert took <= count / rate * 1.1 + STILL + 3 * late.total
    until(lambda: harness.statuses() == {"succeeded": count}, f"stuck: {harness.statuses()}")


def test_never_more_in_flight_than_allowed_also_after_a_worker_is_killed(harness, receiver):
    receiver.answers = [Answer(204, delay=0.3)]
    harness.subscribe_pair(receiver.url, max_in_flight=3)
    harness.emit(60)
    killed = harness.worker()
    harness.worker()
    harness.beat()
    until(lambda: len(receiver.requests) >= 12, "too little arrived")

    harness.stop(killed, signal.SIGKILL)
    at, before = time.monotonic(), len(receiver.requests)

    until(lambda: harness.statuses() == {"succeeded": 60}, f"stuck: {harness.statuses()}")
    assert most_at_once(receiver.requests) <= 3
    repeated = len(receiver.ids) - len(set(receiver.ids))
    print(
        f"\n{before} before the kill, {time.monotonic() - at:.1f} s after it; {repeated} repeated"
    )
    assert repeated <= 3


def test_a_limit_that_is_lifted_while_much_waits(harness, receiver):
    harness.subscribe_pair(receiver.url, rate_limit_per_second=1.0)
    harness.emit(300)
    harness.worker()
    harness.beat()
    until(lambda: len(receiver.requests) >= 3, "too little arrived")
    arrived = len(receiver.requests)
    assert arrived < 10 + time.monotonic() - receiver.requests[0].at

    harness.python(
        "from django_webhooks.models import Subscription\n"
        "s = Subscription.objects.get()\ns.rate_limit_per_second = None\ns.save()"
    )

    until(lambda: harness.statuses() == {"succeeded": 300}, f"stuck: {harness.statuses()}")

"""Order with real processes: what receivers see of each key, under retries, failover and kills."""

from __future__ import annotations

import json
import random
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import pytest

from tests.receivers import Answer, Receiver

from .conftest import MARIADB, REDIS
from .harness import PATIENCE, Harness, Proxy, until
from .patience import PATIENT

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(300)]

#: What a worker may hold is free again after this many seconds; more than an attempt takes.
LEASE, TIMEOUT = 10.0, 6.0
KEYS = 6
EMIT = """
import random, time
from django.db import transaction
from django_webhooks import events
chance = random.Random({seed})
for number in range({start}, {start} + {count}):
    with transaction.atomic():
        key = chance.randrange({keys})
        events.emit("thing.created", {{"key": key, "n": number}}, ordering_key=f"thing-{{key}}")
    time.sleep({pause})
"""


@contextmanager
def emitting(
    harness: Harness, *, count: int, seconds: float, start: int = 0
) -> Iterator[threading.Thread]:
    """Record events of some keys in one process, each in a transaction of its own."""
    code = EMIT.format(seed=1, start=start, count=count, keys=KEYS, pause=seconds / count)
    thread = threading.Thread(target=harness.python, args=(code,), daemon=True)
    thread.start()
    yield thread
    thread.join(PATIENCE)
    assert not thread.is_alive()


def fickle(seed: int, *, failures: float = 0.08) -> list[Answer]:
    """Return answers that take their time, of which some are failures."""
    chance = random.Random(seed)
    made = [
        Answer(500 if chance.random() < failures else 204, delay=chance.uniform(0.005, 0.03))
        for _ in range(5000)
    ]
    return made


def check(*receivers: Receiver, count: int) -> None:
    """See that each key arrived in order, and that no two events of one key overlapped."""
    seen = defaultdict(list)
    for receiver in receivers:
        for place, request in enumerate(receiver.requests):
            data = json.loads(request.body)["data"]
            # From the arrival until it begins to answer.
            works_until = request.at + receiver.answers[place].delay
            seen[data["key"]].append((request.at, works_until, data["n"], request.answer.takes))
    arrived = 0
    for key, requests in seen.items():
        requests.sort()
        accepted = [n for _, _, n, is_taken in requests if is_taken]
        firsts = list(dict.fromkeys(accepted))
        assert firsts == sorted(firsts), f"key {key} is out of order"
        arrived += len(firsts)
        for (_, until_then, n, _), (at, _, following, _) in pairwise(requests):
            assert n == following or at >= until_then, f"{n} and {following} of key {key} overlap"
    assert arrived == count


def done(harness: Harness, count: int) -> None:
    """Wait until all of them arrived."""
    until(lambda: harness.statuses().get("succeeded") == count, "stuck", seconds=120)


def is_back(harness: Harness, failover: str) -> bool:
    """Say whether the traffic went back to the primary; that of each delivery never leaves it."""
    return failover == "each" or harness.switches()[-1][0] == "failback"


@pytest.mark.essential
@pytest.mark.stacks(REDIS)
def test_the_order_is_kept_when_receivers_fail_now_and_then(harness, receiver):
    receiver.answers = fickle(1)
    # Single failures are no outage.
    harness.settings = {**PATIENT, "WEBHOOKS_HEALTH_FALL": 1000}
    harness.subscribe_pair(receiver.url, ordering="key")
    for _ in range(2):
        harness.worker()
    harness.beat()

    with emitting(harness, count=100, seconds=5):
        pass
    done(harness, 100)

    assert not all(request.answer.takes for request in receiver.requests)
    check(receiver, count=100)


@pytest.mark.stacks(REDIS, MARIADB)
def test_the_order_is_kept_when_workers_are_killed(harness, receiver):
    receiver.answers = fickle(2)
    harness.settings = {
        "WEBHOOKS_HEALTH_FALL": 1000,
        "WEBHOOKS_LEASE_SECONDS": LEASE,
        "WEBHOOKS_TIMEOUT_SECONDS": TIMEOUT,
    }
    harness.subscribe_pair(receiver.url, ordering="key")
    workers = [harness.worker(), harness.worker()]
    harness.beat()

    with emitting(harness, count=300, seconds=15):
        until(lambda: len(receiver.requests) > 30, "nothing arrives")
        for _ in range(3):
            harness.stop(workers.pop(0), signal.SIGKILL)
            workers.append(harness.worker())
            time.sleep(2)
    done(harness, 300)

    check(receiver, count=300)


@pytest.mark.outage
@pytest.mark.stacks(REDIS)
@pytest.mark.parametrize("failover", ["switch", "each"])
def test_the_order_is_kept_over_a_failover_and_back(harness, receiver, failover):
    backup = Receiver(fickle(3, failures=0.02))
    receiver.answers = fickle(4, failures=0.02)
    proxy = Proxy("127.0.0.1", receiver.port)
    harness.settings = {
        **PATIENT,
        "WEBHOOKS_HEALTH_HOLD_SECONDS": 2.0,
        "WEBHOOKS_PROBE_INTERVAL_UNHEALTHY_SECONDS": 0.5,
    }
    harness.subscribe_pair(
        f"http://127.0.0.1:{proxy.port}/hook", backup.url, ordering="key", failover=failover
    )
    for _ in range(2):
        harness.worker()
    harness.beat()

    try:
        with emitting(harness, count=100, seconds=5):
            until(lambda: len(receiver.requests) > 30, "nothing arrives")
            proxy.refuse()
        # All of these are recorded when the primary refuses.
        with emitting(harness, count=100, seconds=5, start=100):
            until(lambda: len(backup.requests) > 30, "nothing comes to the backup")
            accepts_since = time.monotonic()
            proxy.accept()
        count, ends = 200, time.monotonic() + PATIENCE
        # The primary is tried with a real delivery: there is traffic until it has been.
        while not (is_back(harness, failover) and receiver.requests[-1].at > accepts_since):
            assert time.monotonic() < ends, "the primary is not used again"
            with emitting(harness, count=20, seconds=1, start=count):
                pass
            count += 20
        done(harness, count)
    finally:
        proxy.refuse()
        backup.close()

    check(receiver, backup, count=count)

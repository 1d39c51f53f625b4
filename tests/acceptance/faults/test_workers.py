"""F07–F10, F16, F25: what happens to workers."""

from __future__ import annotations

import os
import resource
import signal
import threading
import time
from urllib.request import urlopen

import pytest

from tests.acceptance.conftest import RABBITMQ, REDIS
from tests.acceptance.harness import PATIENCE, held, until
from tests.receivers import Answer

from .accounting import IN_FLIGHT
from .conftest import ANY_BROKER, FAULTS, ONE_OF_BOTH, campaign

pytestmark = FAULTS


def unrecorded(harness, receiver) -> int:
    """Return how many requests the receiver took that no attempt tells of."""
    (count,) = harness.query("SELECT count(*) FROM django_webhooks_attempt")[0]
    return len(receiver.requests) - count


def loaded(harness, receiver, count, *, delay=0.05, **how):
    """Start a worker and a beat on a backlog, and wait until they are at it."""
    receiver.answers = [Answer(204, delay=delay)]
    harness.subscribe(receiver.url)
    harness.emit(count)
    worker = harness.worker(**how)
    harness.beat()
    until(lambda: len(receiver.requests) >= 40, "nothing arrived")
    return worker


def is_over(receiver):
    """Wait until the receiver has taken all that somebody sent who was killed."""
    # Connections are accepted in their order.
    urlopen(receiver.url, timeout=PATIENCE).close()
    until(
        lambda: not any("process_request_thread" in one.name for one in threading.enumerate()),
        "a connection is still there",
    )


@pytest.mark.essential
@pytest.mark.stacks(*ANY_BROKER)
def test_f07_a_worker_killed_while_requests_are_in_flight(harness, receiver, account):
    worker = loaded(harness, receiver, 400)

    harness.stop(worker, signal.SIGKILL)
    is_over(receiver)
    in_flight = unrecorded(harness, receiver)
    harness.worker()
    account.clear()

    assert in_flight <= 2 * IN_FLIGHT
    account.settle(repeats=in_flight, extra=10)


@pytest.mark.stacks(*ONE_OF_BOTH)
def test_f08_one_process_of_the_pool_killed(harness, receiver, account):
    worker = loaded(harness, receiver, 400)
    victim = harness.descendants(worker)[0]

    os.kill(victim, signal.SIGKILL)
    account.clear()

    account.settle(repeats=IN_FLIGHT, extra=10)
    assert victim not in harness.descendants(worker)
    assert worker.poll() is None


@pytest.mark.stacks(*ANY_BROKER)
def test_f09_a_warm_shutdown_under_load(harness, receiver, account):
    # Longer than a run goes on, and than a machine stands still.
    worker = loaded(harness, receiver, 600, delay=0.2)

    harness.stop(worker, signal.SIGTERM)
    assert account.balance().waiting, "there was no load any more"
    receiver.answers = [Answer(204)]
    harness.worker()
    account.clear()

    account.settle(extra=10)


@pytest.mark.campaign
@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGQUIT])
def test_f09_a_shutdown_that_is_asked_for_twice(harness, receiver, account, second):
    worker = loaded(harness, receiver, 400)

    worker.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    harness.stop(worker, second)
    harness.worker()
    account.clear()

    account.settle(repeats=2 * IN_FLIGHT, extra=10)


@pytest.mark.stacks(*ANY_BROKER)
def test_f10_a_worker_that_sleeps_beyond_its_lease(harness, receiver, account):
    answers = held(receiver)
    harness.settings |= {"WEBHOOKS_LEASE_SECONDS": 9.0}
    harness.subscribe(receiver.url)
    harness.emit(4)
    sleeper = harness.worker(pool="solo", concurrency=1)
    harness.beat()
    until(lambda: len(receiver.requests) >= 1, "nothing arrived")
    os.killpg(sleeper.pid, signal.SIGSTOP)
    answers.set()
    harness.worker(pool="solo", concurrency=1)
    until(lambda: harness.statuses() == {"succeeded": 4}, "the other worker did not take over")
    before = harness.query("SELECT id, attempts_made, finished_at FROM django_webhooks_delivery")

    os.killpg(sleeper.pid, signal.SIGCONT)
    until(
        lambda: harness.query("SELECT 1 FROM django_webhooks_attempt WHERE is_late"),
        "what came back too late was not recorded",
    )
    account.clear()

    account.settle(repeats=4)
    after = harness.query("SELECT id, attempts_made, finished_at FROM django_webhooks_delivery")
    assert sorted(after) == sorted(before)


@pytest.mark.stacks(*ANY_BROKER)
def test_f16_two_workers_and_two_beats(harness, receiver, account):
    harness.subscribe(receiver.url)
    harness.emit(300)
    for start in (harness.beat, harness.beat, harness.worker, harness.worker):
        start()
    account.clear()

    account.settle(extra=10)


@pytest.mark.campaign
def test_f16_four_workers_on_one_backlog(harness, receiver, account):
    harness.subscribe(receiver.url)
    harness.emit(3000)
    for _ in range(4):
        harness.worker()
    for _ in range(2):
        harness.beat()
    account.clear()

    account.settle(extra=60)
    assert len(receiver.requests) == 3000


@pytest.mark.stacks(campaign(REDIS), campaign(RABBITMQ))
def test_f25_a_worker_that_may_open_no_further_file(harness, receiver, account):
    receiver.answers = [Answer(204, delay=0.05)]
    harness.subscribe(receiver.url)
    harness.emit(5)
    worker = harness.worker()
    harness.beat()
    until(lambda: harness.statuses() == {"succeeded": 5}, "nothing arrived")
    processes = [worker.pid, *harness.descendants(worker)]
    before = {pid: resource.prlimit(pid, resource.RLIMIT_NOFILE) for pid in processes}
    for pid, (_, hard) in before.items():
        # Two more than are open: some requests get a socket, others do not.
        opened = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}
        free = (number for number in range(hard) if number not in opened)
        _, second = next(free), next(free)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (second + 1, hard))

    harness.emit(200)
    time.sleep(6)
    said = harness.query("SELECT DISTINCT reason, detail FROM django_webhooks_attempt")
    for pid, limits in before.items():
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
    account.clear()

    account.settle(extra=10)
    assert {reason for reason, _ in said} <= {"", "internal"}
    assert any("Too many open files" in detail for _, detail in said), said
    assert harness.candidates()[0]["state"] == "healthy"

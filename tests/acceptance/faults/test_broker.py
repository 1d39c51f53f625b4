"""F03–F06, F27, F28: what happens to the broker and its messages."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.acceptance.conftest import RABBITMQ, REDIS
from tests.acceptance.harness import free_port, until
from tests.acceptance.traffic import traffic
from tests.receivers import Answer

from .conftest import ALL, FAULTS, ONE_OF_BOTH, campaign

pytestmark = FAULTS

#: A worker asks again every few seconds, more seldom the longer the broker is gone.
RECONNECTS = 35
#: Seconds that nothing but a wait takes.
LONG = 15


def assert_no_wait(harness, names, *, pause=0.0):
    """Have things created, and check that no commit waited for the broker.

    Each would, for many seconds; a busy machine delays some of them, and each by less.
    """
    seconds = []
    for name in names:
        answer = harness.ask(name)
        assert answer is not None
        seconds.append(answer["seconds"])
        assert seconds[-1] < LONG
        time.sleep(pause)
    assert sorted(seconds)[len(seconds) // 2] < 0.5, seconds


def test_f03_a_broker_that_refuses(harness, receiver, account, proxied):
    proxy, behind = proxied()
    harness.subscribe(receiver.url)
    harness.web(**behind)
    harness.ask("before")
    proxy.refuse()

    assert_no_wait(harness, [f"during {number}" for number in range(5)])
    harness.worker()
    harness.beat()
    account.clear()

    account.settle()


@pytest.mark.campaign
def test_f03_a_broker_that_is_gone_for_30_seconds_for_all(harness, receiver, account, proxied):
    proxy, behind = proxied()
    harness.subscribe(receiver.url)
    harness.web(**behind)
    harness.worker(**behind)
    harness.beat(**behind)
    harness.ask("before")
    until(lambda: receiver.requests, "nothing arrived")
    proxy.refuse()

    assert_no_wait(harness, [f"during {number}" for number in range(30)], pause=1)
    proxy.accept()
    account.clear()

    account.settle(extra=RECONNECTS)


def test_f04_a_broker_that_swallows_everything(harness, receiver, account, proxied):
    proxy, behind = proxied()
    harness.subscribe(receiver.url)
    harness.web(**behind)
    harness.ask("before")
    proxy.swallows = True

    assert_no_wait(harness, [f"during {number}" for number in range(5)])
    harness.worker()
    harness.beat()
    account.clear()

    account.settle()
    assert_no_wait(harness, [f"later {number}" for number in range(3)])
    account.clear()
    account.settle()
    proxy.swallows = False
    proxy.refuse()


@pytest.mark.stacks(*ALL)
def test_f05_all_messages_lost(harness, receiver, account):
    harness.subscribe(receiver.url)
    web = harness.web()
    for number in range(10):
        harness.ask(f"thing {number}")
    harness.stop(web)
    harness.purge()

    harness.worker()
    harness.beat()
    account.clear()

    account.settle()


@pytest.mark.campaign
@pytest.mark.stacks(RABBITMQ)
def test_f05_all_connections_cut_and_all_messages_purged_under_load(
    harness, receiver, account, proxied
):
    proxy, behind = proxied()
    receiver.answers = [Answer(204, delay=0.02)]
    harness.subscribe(receiver.url)
    for start in (harness.web, harness.worker, harness.beat):
        start(**behind)

    with traffic(harness):
        for _ in range(4):
            time.sleep(1)
            proxy.refuse()
            harness.purge()
            time.sleep(1)
            proxy.accept()
    account.clear()

    account.settle(extra=RECONNECTS)


@contextmanager
def _redis(port: int) -> Iterator[None]:
    """Run a Redis that keeps nothing, and kill it."""
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    server = subprocess.Popen([*command, "--appendonly", "no"], stdout=subprocess.DEVNULL)
    try:
        until(lambda: _answers(port), "Redis did not start")
        yield
    finally:
        server.kill()
        server.wait()


@contextmanager
def _supervised(harness: Any, worker: subprocess.Popen[bytes]) -> Iterator[None]:
    """Start a worker again when it ends, as its supervisor would."""
    ending = threading.Event()

    def supervise() -> None:
        running = worker
        while not ending.wait(0.5):
            if running.poll() is not None:
                running = harness.worker()

    thread = threading.Thread(target=supervise)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join()


def _answers(port: int) -> bool:
    import redis

    with contextlib.suppress(redis.ConnectionError), redis.Redis(port=port) as client:
        return bool(client.ping())
    return False


@pytest.mark.campaign
@pytest.mark.stacks(REDIS)
@pytest.mark.skipif(not shutil.which("redis-server"), reason="needs a redis-server of its own")
def test_f05_a_redis_that_is_killed_and_comes_back_empty(harness, receiver, account):
    port = free_port()
    harness.broker = f"redis://127.0.0.1:{port}/0"
    receiver.answers = [Answer(204, delay=0.02)]
    harness.subscribe(receiver.url)
    with _redis(port):
        harness.web()
        worker = harness.worker()
        harness.beat()
        harness.emit(100)
        until(lambda: len(receiver.requests) > 20, "nothing arrived")
    for number in range(5):
        harness.ask(f"while it is gone {number}")

    with _redis(port):
        # Celery 5.7 ends where Redis dies with messages that are not acknowledged; sooner or later,
        # as the machine is busy.
        with _supervised(harness, worker):
            account.clear()
            account.settle(extra=RECONNECTS)
        for child in harness.children:
            harness.stop(child, 9)


@pytest.mark.stacks(*ALL)
def test_f06_every_message_twice(harness, receiver, account):
    harness.subscribe(receiver.url)
    harness.emit(20)
    harness.fan_out()
    harness.python(
        "from django_webhooks import tasks\nfrom django_webhooks.models import Delivery\n"
        "for key in Delivery.objects.values_list('pk', flat=True):\n"
        "    tasks.deliver.delay([str(key)]); tasks.deliver.delay([str(key)])\n"
    )

    harness.worker()
    account.clear()

    account.settle()


@pytest.mark.stacks(campaign(REDIS))
def test_f27_a_visibility_timeout_shorter_than_a_batch(harness, receiver, account):
    # The keys are of this test alone: each worker restores all that it finds too old.
    harness.options = {
        "global_keyprefix": f"{harness.queue}:",
        "visibility_timeout": 1,
        # By default workers look for what seems forgotten every 100 s.
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
    }
    harness.settings |= {"django_webhooks.sending.worker.dispatch.DRAIN_SECONDS": 60.0}
    receiver.answers = [Answer(204, delay=0.5)]
    harness.subscribe(receiver.url)
    harness.emit(300)
    workers = [harness.worker(concurrency=1) for _ in range(2)]
    harness.beat()
    account.clear()

    account.settle(extra=60)

    received = Counter(
        line.partition("tasks.deliver[")[2].partition("]")[0]
        for one in workers
        for line in harness.log(one).splitlines()
        if "tasks.deliver[" in line and "received" in line
    )
    assert max(received.values()) > 1, "no message was delivered again"


@pytest.mark.stacks(campaign(RABBITMQ))
def test_f27_a_message_given_to_another_worker_in_the_middle_of_its_batch(
    harness, receiver, account, proxied
):
    """RabbitMQ knows no such time; it gives a message to another when the connection breaks."""
    proxy, behind = proxied()
    receiver.answers = [Answer(204, delay=0.3)]
    harness.subscribe(receiver.url)
    harness.emit(200)
    harness.worker(**behind)
    harness.worker()
    harness.beat()

    for _ in range(3):
        time.sleep(1)
        proxy.cut()
    account.clear()

    account.settle(extra=30)
    proxy.refuse()


@pytest.mark.stacks(*ONE_OF_BOTH)
def test_f28_messages_for_rows_that_do_not_exist(harness, receiver, account):
    harness.subscribe(receiver.url)
    harness.emit(3)
    harness.python(
        "import uuid\nfrom django_webhooks import tasks\n"
        "from django_webhooks.inbox.tasks import handle\n"
        "for _ in range(20):\n    tasks.deliver.delay([str(uuid.uuid4())])\n"
        "tasks.replay.delay(str(uuid.uuid4()))\nhandle.delay([str(uuid.uuid4())])"
    )

    worker = harness.worker()
    account.clear()

    account.settle()
    until(lambda: harness.log(worker).count("succeeded in") >= 22, "a message was not dealt with")
    assert "Traceback" not in harness.log(worker)

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
from tests.acceptance.stage import free_port, until
from tests.acceptance.traffic import traffic
from tests.receivers import Answer

from .conftest import ALL, FAULTS, ONE_OF_BOTH, campaign

pytestmark = FAULTS

#: A worker asks again every few seconds, more seldom the longer the broker is gone.
RECONNECTS = 35


def test_f03_a_broker_that_refuses(stage, receiver, account, proxied):
    proxy, behind = proxied()
    stage.subscribe(receiver.url)
    stage.web(**behind)
    stage.ask("before")
    proxy.refuse()

    for number in range(5):
        answer = stage.ask(f"during {number}")
        assert answer is not None
        assert answer["seconds"] < 1
    stage.worker()
    stage.beat()
    account.clear()

    account.settle()


@pytest.mark.campaign
def test_f03_a_broker_that_is_gone_for_30_seconds_for_all(stage, receiver, account, proxied):
    proxy, behind = proxied()
    stage.subscribe(receiver.url)
    stage.web(**behind)
    stage.worker(**behind)
    stage.beat(**behind)
    stage.ask("before")
    until(lambda: receiver.requests, "nothing arrived")
    proxy.refuse()

    slowest = 0.0
    for number in range(30):
        slowest = max(slowest, stage.ask(f"during {number}")["seconds"])
        time.sleep(1)
    proxy.accept()
    account.clear()

    account.settle(extra=RECONNECTS)
    assert slowest < 1


def test_f04_a_broker_that_swallows_everything(stage, receiver, account, proxied):
    proxy, behind = proxied()
    stage.subscribe(receiver.url)
    stage.web(**behind)
    stage.ask("before")
    proxy.swallows = True

    answers = [stage.ask(f"during {number}") for number in range(5)]
    stage.worker()
    stage.beat()
    account.clear()

    assert sum(answer["seconds"] for answer in answers) < 2
    account.settle()
    assert max(stage.ask(f"later {number}")["seconds"] for number in range(3)) < 0.5
    account.clear()
    account.settle()
    proxy.swallows = False
    proxy.refuse()


@pytest.mark.stacks(*ALL)
def test_f05_all_messages_lost(stage, receiver, account):
    stage.subscribe(receiver.url)
    web = stage.web()
    for number in range(10):
        stage.ask(f"thing {number}")
    stage.stop(web)
    stage.purge()

    stage.worker()
    stage.beat()
    account.clear()

    account.settle()


@pytest.mark.campaign
@pytest.mark.stacks(RABBITMQ)
def test_f05_all_connections_cut_and_all_messages_purged_under_load(
    stage, receiver, account, proxied
):
    proxy, behind = proxied()
    receiver.answers = [Answer(204, delay=0.02)]
    stage.subscribe(receiver.url)
    for start in (stage.web, stage.worker, stage.beat):
        start(**behind)

    with traffic(stage):
        for _ in range(4):
            time.sleep(1)
            proxy.refuse()
            stage.purge()
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
def _supervised(stage: Any, worker: subprocess.Popen[bytes]) -> Iterator[None]:
    """Start a worker again when it ends, as its supervisor would."""
    ending = threading.Event()

    def supervise() -> None:
        running = worker
        while not ending.wait(0.5):
            if running.poll() is not None:
                running = stage.worker()

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
def test_f05_a_redis_that_is_killed_and_comes_back_empty(stage, receiver, account):
    port = free_port()
    stage.broker = f"redis://127.0.0.1:{port}/0"
    receiver.answers = [Answer(204, delay=0.02)]
    stage.subscribe(receiver.url)
    with _redis(port):
        stage.web()
        worker = stage.worker()
        stage.beat()
        stage.emit(100)
        until(lambda: len(receiver.requests) > 20, "nothing arrived")
    for number in range(5):
        stage.ask(f"while it is gone {number}")

    with _redis(port):
        # Celery 5.7 ends where Redis dies with messages that are not acknowledged; sooner or later,
        # as the machine is busy.
        with _supervised(stage, worker):
            account.clear()
            account.settle(extra=RECONNECTS)
        for child in stage.children:
            stage.stop(child, 9)


@pytest.mark.stacks(*ALL)
def test_f06_every_message_twice(stage, receiver, account):
    stage.subscribe(receiver.url)
    stage.emit(20)
    stage.python(
        "from django_webhooks import tasks\nfrom django_webhooks.models import Delivery\n"
        "for key in Delivery.objects.values_list('pk', flat=True):\n"
        "    tasks.deliver.delay([str(key)]); tasks.deliver.delay([str(key)])\n"
    )

    stage.worker()
    account.clear()

    account.settle()


@pytest.mark.stacks(campaign(REDIS))
def test_f27_a_visibility_timeout_shorter_than_a_batch(stage, receiver, account):
    # The keys are of this test alone: each worker restores all that it finds too old.
    stage.options = {
        "global_keyprefix": f"{stage.queue}:",
        "visibility_timeout": 1,
        # By default workers look for what seems forgotten every 100 s.
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
    }
    stage.settings |= {"WEBHOOKS_DRAIN_SECONDS": 60.0}
    receiver.answers = [Answer(204, delay=0.5)]
    stage.subscribe(receiver.url)
    stage.emit(300)
    workers = [stage.worker(concurrency=1) for _ in range(2)]
    stage.beat()
    account.clear()

    account.settle(extra=60)

    received = Counter(
        line.partition("tasks.deliver[")[2].partition("]")[0]
        for one in workers
        for line in stage.log(one).splitlines()
        if "tasks.deliver[" in line and "received" in line
    )
    assert max(received.values()) > 1, "no message was delivered again"


@pytest.mark.stacks(campaign(RABBITMQ))
def test_f27_a_message_given_to_another_worker_in_the_middle_of_its_batch(
    stage, receiver, account, proxied
):
    """RabbitMQ knows no such time; it gives a message to another when the connection breaks."""
    proxy, behind = proxied()
    receiver.answers = [Answer(204, delay=0.3)]
    stage.subscribe(receiver.url)
    stage.emit(200)
    stage.worker(**behind)
    stage.worker()
    stage.beat()

    for _ in range(3):
        time.sleep(1)
        proxy.cut()
    account.clear()

    account.settle(extra=30)
    proxy.refuse()


@pytest.mark.stacks(*ONE_OF_BOTH)
def test_f28_messages_for_rows_that_do_not_exist(stage, receiver, account):
    stage.subscribe(receiver.url)
    stage.emit(3)
    stage.python(
        "import uuid\nfrom django_webhooks import tasks\n"
        "for _ in range(20):\n    tasks.deliver.delay([str(uuid.uuid4())])\n"
        "tasks.replay.delay(str(uuid.uuid4()))\ntasks.handle.delay([str(uuid.uuid4())])"
    )

    worker = stage.worker()
    account.clear()

    account.settle()
    until(lambda: stage.log(worker).count("succeeded in") >= 22, "a message was not dealt with")
    assert "Traceback" not in stage.log(worker)

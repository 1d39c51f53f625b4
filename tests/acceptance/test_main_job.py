"""The main job, and the faults that it survives, with real processes.

Accounted for from outside: the rows that the site committed against what the receiver saw.
The ids are those of the list of faults.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections import Counter

import pytest
import standardwebhooks

from tests import certificates
from tests.receivers import Answer, Receiver, dripping, speaking
from tests.services import SERVICES

from .conftest import RABBITMQ, REDIS, broker_url
from .stage import PrivatePostgres, Proxy, Stage, until

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(180)]
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def account(stage, receiver, *, repeats=0, lost_answers=0):
    """Check that all that was committed arrived, signed, and was repeated at most so often."""
    committed = stage.committed()

    def arrived():
        return {json.loads(one.body)["data"]["id"] for one in receiver.requests}

    until(lambda: arrived() >= committed, "not everything arrived")
    until(lambda: set(stage.statuses()) <= {"succeeded"}, f"stuck: {stage.statuses()}")
    assert arrived() == committed, "something arrived that was not committed"
    bodies = {}
    for request in receiver.requests:
        standardwebhooks.Webhook(SECRET).verify(request.body, dict(request.headers))
        assert bodies.setdefault(request.headers["webhook-id"], request.body) == request.body
    assert len(bodies) == len(committed)
    repeated = sum(Counter(receiver.ids).values()) - len(bodies)
    assert repeated <= repeats, f"{repeated} repeats"


@pytest.mark.essential
def test_what_is_committed_arrives_once(stage, receiver):
    stage.subscribe(receiver.url)
    stage.worker()
    stage.web()

    for number in range(10):
        stage.ask(f"thing {number}")

    account(stage, receiver)


@pytest.mark.essential
def test_failures_are_retried_and_recorded(stage, receiver):
    receiver.answers = [Answer(503), Answer(500), Answer(429, {"Retry-After": "1"}), Answer(204)]
    stage.subscribe(receiver.url)
    stage.worker()
    stage.web()

    stage.ask("thing")

    account(stage, receiver, repeats=3)
    told = [
        (one.headers["webhook-attempt"], one.headers.get("webhook-retry-reason"))
        for one in receiver.requests
    ]
    assert told == [("1", None), ("2", "http_503"), ("3", "http_500"), ("4", "http_429")]
    assert receiver.requests[3].at - receiver.requests[2].at >= 1
    recorded = stage.python(
        "from django_webhooks.models import Attempt\n"
        "print(json.dumps(list(Attempt.objects.order_by('number')"
        ".values_list('number', 'status_code', 'outcome'))))"
    )
    assert recorded == [
        [1, 503, "retry"],
        [2, 500, "retry"],
        [3, 429, "retry"],
        [4, 204, "succeeded"],
    ]


def test_f01_a_web_process_killed_between_commit_and_message(stage, receiver):
    stage.subscribe(receiver.url)
    stage.worker()
    web = stage.web()

    assert stage.ask("thing", "killed after commit") is None
    web.wait(10)
    assert len(stage.committed()) == 1
    stage.beat()

    account(stage, receiver)


def test_f02_what_is_rolled_back_is_not_sent(stage, receiver):
    stage.subscribe(receiver.url)
    stage.worker()
    stage.beat()
    stage.web()

    stage.ask("a savepoint", "savepoint")
    assert stage.ask("a request", "error") is None
    stage.ask("a good one")

    account(stage, receiver)
    time.sleep(2)
    assert len(receiver.requests) == 1


@pytest.mark.broker_server
def test_f03_a_broker_that_refuses(stage, receiver, request):
    stack = request.node.callspec.params["stage"]
    service = SERVICES["redis" if stack.endswith("redis") else "rabbitmq"]
    proxy = Proxy(service.host, service.port)
    stage.subscribe(receiver.url)
    stage.web(ACCEPTANCE_BROKER=broker_url(stack, port=proxy.port))
    stage.ask("before")
    proxy.refuse()

    for number in range(5):
        answer = stage.ask(f"during {number}")
        assert answer is not None
        assert answer["seconds"] < 1
    stage.worker()
    stage.beat()

    account(stage, receiver)


@pytest.mark.broker_server
def test_f04_a_broker_that_swallows_everything(stage, receiver, request):
    stack = request.node.callspec.params["stage"]
    service = SERVICES["redis" if stack.endswith("redis") else "rabbitmq"]
    proxy = Proxy(service.host, service.port)
    stage.subscribe(receiver.url)
    stage.web(ACCEPTANCE_BROKER=broker_url(stack, port=proxy.port))
    stage.ask("before")
    proxy.swallows = True

    answers = [stage.ask(f"during {number}") for number in range(5)]
    stage.worker()
    stage.beat()

    assert sum(answer["seconds"] for answer in answers) < 2
    account(stage, receiver)
    proxy.swallows = False
    proxy.refuse()


def test_f05_all_messages_lost(stage, receiver):
    stage.subscribe(receiver.url)
    web = stage.web()
    for number in range(10):
        stage.ask(f"thing {number}")
    stage.stop(web)
    stage.purge()

    stage.worker()
    stage.beat()

    account(stage, receiver)


def test_f06_every_message_twice(stage, receiver):
    stage.subscribe(receiver.url)
    stage.emit(20)
    stage.python(
        "from django_webhooks import tasks\nfrom django_webhooks.models import Delivery\n"
        "for key in Delivery.objects.values_list('pk', flat=True):\n"
        "    tasks.deliver.delay([str(key)]); tasks.deliver.delay([str(key)])\n"
        # F28: rows that do not exist, as after a restored backup.
        "tasks.deliver.delay(['018f3c7e-0000-7000-8000-000000000000'])"
    )

    stage.worker()

    account(stage, receiver)


@pytest.mark.essential
def test_f07_a_worker_killed_while_requests_are_in_flight(stage, receiver):
    receiver.answers = [Answer(204, delay=0.05)]
    stage.subscribe(receiver.url)
    stage.emit(300)
    worker = stage.worker()
    stage.beat()
    until(lambda: len(receiver.requests) >= 40, "nothing arrived")

    stage.stop(worker, signal.SIGKILL)
    stage.worker()

    # Two processes with 8 requests in flight to this endpoint each, and as many unrecorded.
    account(stage, receiver, repeats=64)


def test_f09_a_warm_shutdown_under_load(stage, receiver):
    receiver.answers = [Answer(204, delay=0.02)]
    stage.settings = {"WEBHOOKS_DRAIN_SECONDS": 2.0}
    stage.subscribe(receiver.url)
    stage.emit(600)
    worker = stage.worker()
    stage.beat()
    until(lambda: len(receiver.requests) >= 20, "nothing arrived")

    stage.stop(worker, signal.SIGTERM)
    stage.worker()

    account(stage, receiver)


def test_f10_a_worker_that_sleeps_beyond_its_lease(stage, receiver):
    receiver.answers = [Answer(204, delay=1.0)]
    stage.settings = {"WEBHOOKS_TIMEOUT": 1.5, "WEBHOOKS_LEASE_SECONDS": 2.0}
    stage.subscribe(receiver.url)
    stage.emit(4)
    sleeper = stage.worker(pool="solo", concurrency=1)
    stage.beat()
    until(lambda: len(receiver.requests) >= 1, "nothing arrived")
    os.killpg(sleeper.pid, signal.SIGSTOP)
    stage.worker(pool="solo", concurrency=1)
    until(lambda: stage.statuses() == {"succeeded": 4}, "the other worker did not take over")

    os.killpg(sleeper.pid, signal.SIGCONT)
    time.sleep(3)

    account(stage, receiver, repeats=4)


def test_f16_two_workers_and_two_beats(stage, receiver):
    stage.subscribe(receiver.url)
    stage.emit(300)
    for _ in range(2):
        stage.beat()
    for _ in range(2):
        stage.worker()

    account(stage, receiver)


def test_f18_an_answer_that_never_arrives(stage, receiver):
    receiver.answers = [Answer(204, delay=4.0), Answer(204)]
    stage.subscribe(receiver.url)
    stage.worker()
    stage.web()

    stage.ask("thing")

    account(stage, receiver, repeats=1)
    assert receiver.requests[1].headers["webhook-retry-reason"] == "timeout"


@pytest.mark.postgres
@pytest.mark.redis
def test_f11_a_database_restarted_while_requests_are_in_flight(receiver, tmp_path):
    receiver.answers = [Answer(204, delay=2.0)]
    (tmp_path / "postgres").mkdir()
    for folder in (tmp_path, *tmp_path.parents[:2]):
        # Its server runs under an account of its own.
        folder.chmod(0o755)
    server = PrivatePostgres(tmp_path / "postgres")
    stage = Stage(tmp_path, database=server.url, broker=broker_url("postgres+redis"))
    try:
        stage.migrate()
        stage.subscribe(receiver.url)
        stage.emit(12)
        stage.worker()
        stage.beat()
        until(lambda: len(receiver.requests) >= 4, "nothing arrived")
        server.stop()
        time.sleep(1)
        server.start()

        account(stage, receiver, repeats=16)
    finally:
        stage.close()
        server.close()


@pytest.mark.stacks(RABBITMQ)
@pytest.mark.parametrize("pool", ["prefork", "threads", "solo", "gevent"])
def test_every_pool_delivers_and_keeps_the_deadline(stage, receiver, pool):
    receiver.answers = [Answer(204, delay=8.0), Answer(204)]
    stage.settings = {"WEBHOOKS_TIMEOUT": 1.0}
    stage.subscribe(receiver.url)
    stage.emit(30)
    stage.worker(pool=pool)
    stage.beat()

    account(stage, receiver, repeats=1)
    delayed = receiver.ids[0]
    times = [one.at for one in receiver.requests if one.headers["webhook-id"] == delayed]
    assert 1.0 <= times[1] - times[0] < 5


@pytest.mark.essential
@pytest.mark.stacks(REDIS)
@pytest.mark.parametrize("pool", ["prefork", "threads", "solo", "gevent"])
def test_a_server_that_drips_ends_at_the_deadline_in_every_pool(stage, pool, tmp_path):
    """In the clear and inside TLS; it would drip for 20 s."""
    made = certificates.make(tmp_path, names=["127.0.0.1"])
    drips = dripping(b"HTTP/1.1 200 OK\r\n", b"X-Drip: x\r\n", every=1 / 3)
    with (
        contextlib.closing(Receiver(tls=made.server())) as receiver,
        speaking(drips) as plain,
        speaking(drips, tls=made.server()) as inside_tls,
    ):
        stage.settings = {
            "WEBHOOKS_TIMEOUT": 1.0,
            "WEBHOOKS_HEALTH_FALL": 1000,
            "WEBHOOKS_RETRY_FACTOR": 1.0,
            "WEBHOOKS_RETRY_BASE": 1.0,
            "WEBHOOKS_CA_BUNDLE": str(made.certificate),
        }
        stage.subscribe(receiver.url)
        stage.subscribe(f"http://{plain}/")
        stage.subscribe(f"https://{inside_tls}/")
        stage.emit(1)
        stage.worker(pool=pool)
        stage.beat()

        def is_told():
            """Whether enough is known: a busy machine adds time, so that the best one counts."""
            best = [min(durations(stage, one), default=9999) for one in (plain, inside_tls)]
            return all(1000 <= one <= 1500 for one in best)

        until(is_told, "no attempt ended within half a second of the deadline")
        until(lambda: len(receiver.requests) == 1, "nothing arrived beside it")
        for server in (plain, inside_tls):
            assert max(durations(stage, server)) < 5_000


def durations(stage, host):
    """Return the milliseconds of all attempts to a host, which have all timed out."""
    found = stage.python(
        "from django_webhooks.models import Attempt\n"
        f"rows = Attempt.objects.filter(endpoint_host={host!r})\n"
        "print(json.dumps([list(row) for row in rows.values_list('reason', 'duration_ms')]))"
    )
    assert {reason for reason, _ in found} <= {"timeout"}
    return [milliseconds for _, milliseconds in found]

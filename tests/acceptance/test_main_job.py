"""The main job with real processes, in every pool.

Accounted for from outside: the rows that the site committed against what the receiver saw.
What breaks around it is in the folder ``faults``.
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter

import pytest
import standardwebhooks

from tests import certificates
from tests.receivers import Answer, Receiver, dripping, speaking

from .conftest import RABBITMQ, REDIS
from .stage import until

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

"""The main job with real processes, in every pool.

Accounted for from outside: the rows that the site committed against what the receiver saw.
What breaks around it is in the folder ``faults``.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections import Counter

import pytest
import standardwebhooks

from tests import certificates
from tests.receivers import Answer, Receiver, dripping, read_request, speaking

from .conftest import RABBITMQ, REDIS
from .harness import until
from .patience import PATIENT

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(300)]
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def account(harness, receiver, *, repeats=0, lost_answers=0):
    """Check that all that was committed arrived, signed, and was repeated at most so often."""
    committed = harness.committed()

    def arrived():
        return {json.loads(one.body)["data"]["id"] for one in receiver.requests}

    until(lambda: arrived() >= committed, "not everything arrived")
    until(lambda: set(harness.statuses()) <= {"succeeded"}, f"stuck: {harness.statuses()}")
    assert arrived() == committed, "something arrived that was not committed"
    bodies = {}
    for request in receiver.requests:
        standardwebhooks.Webhook(SECRET).verify(request.body, dict(request.headers))
        assert bodies.setdefault(request.headers["webhook-id"], request.body) == request.body
    assert len(bodies) == len(committed)
    repeated = sum(Counter(receiver.ids).values()) - len(bodies)
    assert repeated <= repeats, f"{repeated} repeats"


@pytest.mark.essential
def test_what_is_committed_arrives_once(harness, receiver):
    harness.settings = PATIENT
    harness.subscribe(receiver.url)
    harness.worker()
    harness.web()

    for number in range(10):
        harness.ask(f"thing {number}")

    account(harness, receiver)


@pytest.mark.essential
def test_failures_are_retried_and_recorded(harness, receiver):
    receiver.answers = [Answer(503), Answer(500), Answer(429, {"Retry-After": "1"}), Answer(204)]
    harness.settings = PATIENT
    harness.subscribe(receiver.url)
    harness.worker()
    harness.web()

    harness.ask("thing")

    account(harness, receiver, repeats=3)
    told = [
        (one.headers["webhook-attempt"], one.headers.get("webhook-retry-reason"))
        for one in receiver.requests
    ]
    assert told == [("1", None), ("2", "http_503"), ("3", "http_500"), ("4", "http_429")]
    assert receiver.requests[3].at - receiver.requests[2].at >= 1
    recorded = harness.python(
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
def test_every_pool_delivers_and_keeps_the_deadline(harness, receiver, pool):
    """One request would be answered after two minutes; the lease of its delivery lasts as long."""
    receiver.answers = [Answer(204, delay=120.0), Answer(204)]
    harness.settings = {
        "WEBHOOKS_TIMEOUT_SECONDS": 1.0,
        "WEBHOOKS_LEASE_SECONDS": 120.0,
        # Where a busy machine is late with an answer, that is no outage.
        "WEBHOOKS_HEALTH_FALL": 1000,
        "django_webhooks.policies.health.WINDOW_ATTEMPTS": 1000,
        "WEBHOOKS_RETRY_FACTOR": 1.0,
    }
    harness.subscribe(receiver.url)
    harness.emit(30)
    harness.worker(pool=pool)
    harness.beat()

    until(lambda: harness.statuses() == {"succeeded": 30}, "not everything arrived")
    missed = harness.python(
        "from django_webhooks.models import Attempt\n"
        "print(json.dumps([list(row) for row in Attempt.objects.exclude(outcome='succeeded')"
        ".values_list('reason', 'duration_ms')]))"
    )
    account(harness, receiver, repeats=len(missed))
    assert {reason for reason, _ in missed} == {"timeout"}
    assert min(milliseconds for _, milliseconds in missed) >= 1000
    delayed = receiver.ids[0]
    times = [one.at for one in receiver.requests if one.headers["webhook-id"] == delayed]
    assert times[1] - times[0] < 60


def behind_one_server(connection):
    """Answer the receivers of two tenants: one with 103 and later 200, the other with 503."""
    while request := read_request(connection):
        if request.startswith(b"POST /a"):
            connection.sendall(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
            time.sleep(0.1)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nof a")
        else:
            connection.sendall(b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nof b")


@pytest.mark.stacks(REDIS)
@pytest.mark.parametrize("pool", ["prefork", "threads", "solo", "gevent"])
def test_each_answer_belongs_to_its_request_in_every_pool(harness, pool, tmp_path):
    made = certificates.make(tmp_path, names=["127.0.0.1"])
    with (
        speaking(behind_one_server) as plain,
        speaking(behind_one_server, tls=made.server()) as inside_tls,
    ):
        harness.settings = {
            **PATIENT,
            "WEBHOOKS_HEALTH_FALL": 1000,
            "django_webhooks.policies.health.WINDOW_ATTEMPTS": 1000,
            "WEBHOOKS_CA_BUNDLE": str(made.certificate),
        }
        for server in (f"http://{plain}", f"https://{inside_tls}"):
            harness.subscribe(f"{server}/a")
            harness.subscribe(f"{server}/b")
        harness.emit(20)
        harness.worker(pool=pool)
        harness.beat()

        def told():
            return harness.python(
                "from django_webhooks.models import Attempt\n"
                "print(json.dumps([[str(one), *rest] for one, *rest in"
                " Attempt.objects.values_list("
                "'delivery__subscription_id', 'status_code', 'response_body', 'reason')]))"
            )

        def are_all_attempted():
            counts = Counter(subscription for subscription, *_ in told())
            return len(counts) == 4 and min(counts.values()) >= 20

        until(are_all_attempted, "not everything was attempted")
        found = {}
        for subscription, *rest in told():
            found.setdefault(subscription, set()).add(tuple(rest))

    right = [{(200, "of a", "")}] * 2 + [{(503, "of b", "http_503")}] * 2
    assert sorted(found.values(), key=str) == right


@pytest.mark.essential
@pytest.mark.stacks(REDIS)
@pytest.mark.parametrize("pool", ["prefork", "threads", "solo", "gevent"])
def test_a_server_that_drips_ends_at_the_deadline_in_every_pool(harness, pool, tmp_path):
    """In the clear and inside TLS; it would drip for 48 s."""
    made = certificates.make(tmp_path, names=["127.0.0.1"])
    drips = dripping(b"HTTP/1.1 200 OK\r\n", b"X-Drip: x\r\n", every=0.8)
    with (
        contextlib.closing(Receiver(tls=made.server())) as receiver,
        speaking(drips) as plain,
        speaking(drips, tls=made.server()) as inside_tls,
    ):
        harness.settings = {
            **PATIENT,
            "WEBHOOKS_TIMEOUT_SECONDS": 1.0,
            "WEBHOOKS_HEALTH_FALL": 1000,
            "WEBHOOKS_RETRY_FACTOR": 1.0,
            "WEBHOOKS_RETRY_BASE_SECONDS": 1.0,
            "WEBHOOKS_CA_BUNDLE": str(made.certificate),
        }
        harness.subscribe(receiver.url)
        harness.subscribe(f"http://{plain}/")
        harness.subscribe(f"https://{inside_tls}/")
        harness.emit(1)
        harness.worker(pool=pool)
        harness.beat()

        def is_told():
            """Whether enough is known: a busy machine adds time, so that the best one counts."""
            best = [min(durations(harness, one), default=9999) for one in (plain, inside_tls)]
            return all(1000 <= one <= 1500 for one in best)

        until(is_told, "no attempt ended within half a second of the deadline")
        beside = f"127.0.0.1:{receiver.port}"
        until(lambda: [beside, "succeeded", ""] in harness.attempts(), "nothing arrived beside it")
        # A busy machine may miss the deadline there as well, which is on record.
        hosts = [host for host, _, _ in harness.attempts()]
        assert 1 <= len(receiver.requests) <= hosts.count(beside)
        for server in (plain, inside_tls):
            assert max(durations(harness, server)) < 24_000


def durations(harness, host):
    """Return the milliseconds of all attempts to a host, which have all timed out."""
    found = harness.python(
        "from django_webhooks.models import Attempt\n"
        f"rows = Attempt.objects.filter(endpoint_host={host!r})\n"
        "print(json.dumps([list(row) for row in rows.values_list('reason', 'duration_ms')]))"
    )
    assert {reason for reason, _ in found} <= {"timeout"}
    return [milliseconds for _, milliseconds in found]

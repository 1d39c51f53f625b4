"""Receiving once with real processes: however often a message comes, and whoever dies meanwhile.

Accounted for by rows that a handler writes, and that nothing but the inbox keeps from doubling.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from tests import certificates, senders

from .conftest import REDIS
from .stage import SIGNING_SECRET, free_port, until
from .traffic import traffic

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.timeout(120),
    pytest.mark.stacks(REDIS),
]

COPIES, PROCESSES = 100, 3


def request_of(site, *, path="hooks/", message_id="msg_1", **data):
    """Return a signed message."""
    body = json.dumps({"type": "thing.created", "data": data}).encode()
    headers = senders.standard(body, SIGNING_SECRET, int(time.time()), message_id)
    headers["content-type"] = "application/json"
    return Request(site + path, data=body, headers=headers, method="POST")


def post(request):
    """Send it; return the status, 0 where none came, and what Retry-After says."""
    try:
        with urlopen(request, timeout=30) as answer:
            return answer.status, None
    except HTTPError as error:
        with error:
            return error.code, error.headers["Retry-After"]
    except OSError:
        return 0, None


def effects(stage):
    """Return how many effects there are, by message."""
    return stage.python(
        "from collections import Counter\nfrom tests.acceptance.site.models import Effect\n"
        "print(json.dumps(Counter(Effect.objects.values_list('message_id', flat=True))))"
    )


def inbox(stage):
    """Return the rows of the inbox by message: status, attempts, repeats and error."""
    return stage.python(
        "from django_webhooks.models import InboxMessage\n"
        "print(json.dumps({one.pop('message_id'): one for one in InboxMessage.objects.values("
        "'message_id', 'status', 'attempts_made', 'repeats', 'error')}))"
    )


def processes(stage, count):
    """Start web processes, and return them with where they are."""
    found = []
    for _ in range(count):
        web = stage.web()
        found.append((web, stage.site))
    return found


def in_the_handler(stage):
    """Wait until the handler that hangs does."""
    until((stage.folder / "began").exists, "the handler did not begin")


@pytest.mark.parametrize("path", ["hooks/", "hooks-later/"])
def test_a_hundred_copies_at_once_have_one_effect(stage, path):
    sites = [site for _, site in processes(stage, PROCESSES)]
    if path == "hooks-later/":
        stage.worker()
        stage.beat()
    gate = threading.Barrier(COPIES)

    def send(number):
        request = request_of(sites[number % PROCESSES], path=path, how="slow")
        gate.wait(30)
        return post(request)

    with ThreadPoolExecutor(COPIES) as pool:
        answers = Counter(pool.map(send, range(COPIES)))

    print(f"\n{path}: {dict(answers)}")
    assert all(
        200 <= status < 300 or (status in {409, 503} and retry_after)
        for status, retry_after in answers
    )
    first = 204 if path == "hooks/" else 202
    assert answers[first, None] == 1
    until(lambda: inbox(stage)["msg_1"]["status"] == "handled", "it was not handled")
    assert effects(stage) == {"msg_1": 1}
    assert list(inbox(stage)) == ["msg_1"]
    assert inbox(stage)["msg_1"]["repeats"] == answers[200, None]


def test_what_a_killed_process_was_handling_is_handled_when_it_comes_again(stage):
    stage.settings = {"WEBHOOKS_INBOX_WAIT": 0.5}
    (dying, first), (_, second) = processes(stage, 2)
    answers = []
    thread = threading.Thread(
        target=lambda: answers.append(post(request_of(first, how="hangs once")))
    )
    thread.start()
    in_the_handler(stage)

    meanwhile = post(request_of(second, how="hangs once"))
    before = effects(stage)
    stage.stop(dying, signal.SIGKILL)
    thread.join(30)
    killed_at = time.monotonic()
    until(lambda: post(request_of(second, how="hangs once"))[0] == 204, "it was not handled")
    seconds = time.monotonic() - killed_at
    again = post(request_of(second, how="hangs once"))

    print(f"\nmeanwhile {meanwhile}, handled {seconds:.2f} s after the kill, then {again}")
    assert answers == [(0, None)]
    assert meanwhile == (503, "10")
    assert before == {}
    assert again == (200, None)
    assert effects(stage) == {"msg_1": 1}


def test_what_a_killed_worker_was_handling_is_handled_by_another(stage):
    stage.settings = {"WEBHOOKS_RETRY_BASE": 0.5}
    stage.web()
    worker = stage.worker()
    assert post(request_of(stage.site, path="hooks-later/", how="hangs once")) == (202, None)
    in_the_handler(stage)

    before = effects(stage)
    began = time.monotonic()
    meanwhile = post(request_of(stage.site, path="hooks-later/", how="hangs once"))
    seconds = time.monotonic() - began
    stage.stop(worker, signal.SIGKILL)
    assert inbox(stage)["msg_1"]["status"] == "waiting"
    stage.worker()
    stage.beat()
    until(lambda: inbox(stage)["msg_1"]["status"] == "handled", "it was not handled")

    print(f"\nmeanwhile {meanwhile} after {seconds:.2f} s, then {inbox(stage)['msg_1']}")
    assert before == {}
    assert meanwhile == (200, None)
    assert seconds < 3
    assert effects(stage) == {"msg_1": 1}
    assert inbox(stage)["msg_1"]["attempts_made"] == 2


def test_what_always_fails_is_given_up_and_handled_once_mended_and_replayed(stage):
    stage.settings = {"WEBHOOKS_INBOX_ATTEMPTS": 3, "WEBHOOKS_RETRY_BASE": 0.2}
    stage.web()
    stage.worker()
    stage.beat()

    for how in ("fails", "kills"):
        request = request_of(stage.site, path="hooks-later/", message_id=how, how=how)
        assert post(request) == (202, None)
    until(
        lambda: {one["status"] for one in inbox(stage).values()} == {"given_up"},
        "it was not given up",
    )
    given_up = inbox(stage)
    before = effects(stage)
    (stage.folder / "mended").touch()
    stage.python(
        "from django_webhooks.models import InboxMessage\n"
        "InboxMessage.objects.filter(message_id='fails').replay()"
    )
    until(lambda: inbox(stage)["fails"]["status"] == "handled", "it was not handled")

    print(f"\n{given_up}")
    assert {name: one["attempts_made"] for name, one in given_up.items()} == {
        "fails": 3,
        "kills": 3,
    }
    assert given_up["fails"]["error"] == "RuntimeError: after the effect"
    assert given_up["kills"]["error"] == "interrupted"
    assert before == {}
    assert effects(stage) == {"fails": 1}


def test_every_event_has_one_effect_though_workers_and_the_primary_are_killed(stage, tmp_path):
    made = certificates.make(tmp_path, names=["127.0.0.1"])
    tls = {"ACCEPTANCE_CERTIFICATE": str(made.certificate), "ACCEPTANCE_KEY": str(made.key)}
    os.environ["ACCEPTANCE_AUTHORITIES"] = str(made.certificate)
    try:
        under_way(stage, tls)
    finally:
        del os.environ["ACCEPTANCE_AUTHORITIES"]
    happened = Counter(
        stage.python(
            "from tests.acceptance.site.models import Effect\n"
            "print(json.dumps([data['id'] for data in Effect.objects.values_list('data',"
            " flat=True)]))"
        )
    )
    rows = inbox(stage)
    attempts = Counter(outcome for _, outcome, _ in stage.attempts())
    repeats = sum(one["repeats"] for one in rows.values())
    causes = [cause for cause, _ in stage.switches()]
    print(
        f"\n{len(happened)} things, {sum(happened.values())} effects, {repeats} repeats; "
        f"attempts {dict(attempts)}; switches {causes}"
    )
    assert set(happened) == stage.committed()
    assert set(happened.values()) == {1}
    assert len(rows) == len(happened) >= 200
    # Otherwise nothing was shown.
    assert repeats > 0
    assert "failover" in causes


def under_way(stage, tls):
    """Let 200 events be told by TLS while workers and the primary die and come back."""
    stage.settings = {
        "WEBHOOKS_RECEIVING_REQUIRE_HTTPS": True,
        "WEBHOOKS_REQUIRE_HTTPS": True,
        "WEBHOOKS_HEALTH_HOLD": 2.0,
        "WEBHOOKS_PROBE_INTERVAL_UNHEALTHY": 1.0,
        "WEBHOOKS_PROBE_TIMEOUT": 1.0,
        "SECONDS_UNTIL_ANSWER": 0.2,
    }
    ports = [free_port(), free_port()]
    stage.subscribe_pair(*(f"https://127.0.0.1:{port}/hooks/" for port in ports))
    primary, _ = (stage.serve(port, **tls) for port in ports)
    worker = stage.worker()
    stage.beat()
    stage.web()
    with traffic(stage, rate=20) as events:
        time.sleep(1)
        stage.stop(worker, signal.SIGKILL)
        worker = stage.worker()
        time.sleep(1)
        stage.stop(primary, signal.SIGKILL)
        time.sleep(1.5)
        stage.serve(ports[0], **tls)
        until(lambda: len(events.committed) >= 200, "there were too few events")
        stage.stop(worker, signal.SIGKILL)
    stage.worker()
    until(lambda: set(stage.statuses()) == {"succeeded"}, f"stuck: {stage.statuses()}")

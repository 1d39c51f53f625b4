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
from .harness import PATIENCE, SIGNING_SECRET, free_port, until
from .traffic import traffic

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.timeout(300),
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
        with urlopen(request, timeout=PATIENCE) as answer:
            return answer.status, None
    except HTTPError as error:
        with error:
            return error.code, error.headers["Retry-After"]
    except OSError:
        return 0, None


def effects(harness):
    """Return how many effects there are, by message."""
    return harness.python(
        "from collections import Counter\nfrom tests.acceptance.site.models import Effect\n"
        "print(json.dumps(Counter(Effect.objects.values_list('message_id', flat=True))))"
    )


def inbox(harness):
    """Return the rows of the inbox by message: status, attempts, repeats and error."""
    return harness.python(
        "from django_webhooks.inbox.models import InboxMessage\n"
        "print(json.dumps({one.pop('message_id'): one for one in InboxMessage.objects.values("
        "'message_id', 'status', 'attempts_made', 'repeats', 'error')}))"
    )


def processes(harness, count):
    """Start web processes, and return them with where they are."""
    found = []
    for _ in range(count):
        web = harness.web()
        found.append((web, harness.site))
    return found


def in_the_handler(harness):
    """Wait until the handler that hangs does."""
    until((harness.folder / "began").exists, "the handler did not begin")


@pytest.mark.parametrize("path", ["hooks/", "hooks-later/"])
def test_a_hundred_copies_at_once_have_one_effect(harness, path):
    # Each is counted, however long it waits for the others.
    harness.settings = {"django_webhooks.inbox.deduplication.COUNT_WAIT_SECONDS": 60.0}
    sites = [site for _, site in processes(harness, PROCESSES)]
    if path == "hooks-later/":
        harness.worker()
        harness.beat()
    gate = threading.Barrier(COPIES)

    def send(number):
        request = request_of(sites[number % PROCESSES], path=path, how="slow")
        gate.wait(PATIENCE)
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
    until(lambda: inbox(harness)["msg_1"]["status"] == "handled", "it was not handled")
    assert effects(harness) == {"msg_1": 1}
    assert list(inbox(harness)) == ["msg_1"]
    assert inbox(harness)["msg_1"]["repeats"] == answers[200, None]


def test_what_a_killed_process_was_handling_is_handled_when_it_comes_again(harness):
    harness.settings = {"django_webhooks.inbox.deduplication.WAIT_SECONDS": 0.5}
    (dying, first), (_, second) = processes(harness, 2)
    answers = []
    thread = threading.Thread(
        target=lambda: answers.append(post(request_of(first, how="hangs once")))
    )
    thread.start()
    in_the_handler(harness)

    meanwhile = post(request_of(second, how="hangs once"))
    before = effects(harness)
    harness.stop(dying, signal.SIGKILL)
    thread.join(PATIENCE)
    killed_at = time.monotonic()
    until(lambda: post(request_of(second, how="hangs once"))[0] == 204, "it was not handled")
    seconds = time.monotonic() - killed_at
    again = post(request_of(second, how="hangs once"))

    print(f"\nmeanwhile {meanwhile}, handled {seconds:.2f} s after the kill, then {again}")
    assert answers == [(0, None)]
    assert meanwhile == (503, "10")
    assert before == {}
    assert again == (200, None)
    assert effects(harness) == {"msg_1": 1}


def test_what_a_killed_worker_was_handling_is_handled_by_another(harness):
    harness.settings = {
        # An attempt that begins late is not taken for one whose worker died.
        "WEBHOOKS_RETRY_BASE_SECONDS": 5.0,
        "django_webhooks.inbox.deduplication.WAIT_SECONDS": 60.0,
    }
    harness.web()
    worker = harness.worker()
    assert post(request_of(harness.site, path="hooks-later/", how="hangs once")) == (202, None)
    in_the_handler(harness)

    before = effects(harness)
    began = time.monotonic()
    meanwhile = post(request_of(harness.site, path="hooks-later/", how="hangs once"))
    seconds = time.monotonic() - began
    harness.stop(worker, signal.SIGKILL)
    assert inbox(harness)["msg_1"]["status"] == "waiting"
    harness.worker()
    harness.beat()
    until(lambda: inbox(harness)["msg_1"]["status"] == "handled", "it was not handled")

    print(f"\nmeanwhile {meanwhile} after {seconds:.2f} s, then {inbox(harness)['msg_1']}")
    assert before == {}
    assert meanwhile == (200, None)
    # The handler hangs for longer, and so long a copy would wait for its end.
    assert seconds < 30
    assert effects(harness) == {"msg_1": 1}
    assert inbox(harness)["msg_1"]["attempts_made"] == 2


def test_what_always_fails_is_given_up_and_handled_once_mended_and_replayed(harness):
    harness.settings = {"WEBHOOKS_RETRY_ATTEMPTS": 3, "WEBHOOKS_RETRY_BASE_SECONDS": 1.0}
    harness.web()
    harness.worker()
    harness.beat()

    for how in ("fails", "kills"):
        request = request_of(harness.site, path="hooks-later/", message_id=how, how=how)
        assert post(request) == (202, None)
    until(
        lambda: {one["status"] for one in inbox(harness).values()} == {"given_up"},
        "it was not given up",
    )
    given_up = inbox(harness)
    before = effects(harness)
    (harness.folder / "mended").touch()
    harness.python(
        "from django_webhooks.inbox.models import InboxMessage\n"
        "InboxMessage.objects.filter(message_id='fails').replay()"
    )
    until(lambda: inbox(harness)["fails"]["status"] == "handled", "it was not handled")

    print(f"\n{given_up}")
    assert {name: one["attempts_made"] for name, one in given_up.items()} == {
        "fails": 3,
        "kills": 3,
    }
    assert given_up["fails"]["error"] == "RuntimeError: after the effect"
    assert given_up["kills"]["error"] == "interrupted"
    assert before == {}
    assert effects(harness) == {"fails": 1}


def test_every_event_has_one_effect_though_workers_and_the_primary_are_killed(harness, tmp_path):
    made = certificates.make(tmp_path, names=["127.0.0.1"])
    tls = {"ACCEPTANCE_CERTIFICATE": str(made.certificate), "ACCEPTANCE_KEY": str(made.key)}
    os.environ["ACCEPTANCE_AUTHORITIES"] = str(made.certificate)
    try:
        under_way(harness, tls)
    finally:
        del os.environ["ACCEPTANCE_AUTHORITIES"]
    happened = Counter(
        harness.python(
            "from tests.acceptance.site.models import Effect\n"
            "print(json.dumps([data['id'] for data in Effect.objects.values_list('data',"
            " flat=True)]))"
        )
    )
    rows = inbox(harness)
    attempts = Counter(outcome for _, outcome, _ in harness.attempts())
    repeats = sum(one["repeats"] for one in rows.values())
    causes = [cause for cause, _ in harness.switches()]
    print(
        f"\n{len(happened)} things, {sum(happened.values())} effects, {repeats} repeats; "
        f"attempts {dict(attempts)}; switches {causes}"
    )
    assert set(happened) == harness.committed()
    assert set(happened.values()) == {1}
    assert len(rows) == len(happened) >= 200
    # Otherwise nothing was shown.
    assert repeats > 0


def under_way(harness, tls):
    """Let 200 events be told by TLS while workers and the primary die and come back."""
    harness.settings = {
        "WEBHOOKS_RECEIVING_REQUIRE_HTTPS": True,
        "WEBHOOKS_REQUIRE_HTTPS": True,
        "WEBHOOKS_HEALTH_HOLD_SECONDS": 2.0,
        "WEBHOOKS_PROBE_INTERVAL_UNHEALTHY_SECONDS": 1.0,
        "SECONDS_UNTIL_ANSWER": 0.2,
    }
    ports, held = [free_port(), free_port()], harness.folder / "held"
    harness.subscribe_pair(*(f"https://127.0.0.1:{port}/hooks/" for port in ports))
    primary, _ = (harness.serve(port, **tls) for port in ports)
    worker = harness.worker()
    harness.beat()
    harness.web()
    with traffic(harness, rate=20) as events:
        time.sleep(1)
        harness.stop(worker, signal.SIGKILL)
        worker = harness.worker()
        # It dies when it has handled what it has not answered.
        held.touch()
        handled = effects(harness)
        until(lambda: len(effects(harness)) > len(handled), "nothing more was handled")
        harness.stop(primary, signal.SIGKILL)
        held.unlink()
        until(lambda: "failover" in dict(harness.switches()), "the backup is not used")
        harness.serve(ports[0], **tls)
        until(lambda: len(events.committed) >= 200, "there were too few events")
        harness.stop(worker, signal.SIGKILL)
    harness.worker()
    until(lambda: set(harness.statuses()) == {"succeeded"}, f"stuck: {harness.statuses()}")

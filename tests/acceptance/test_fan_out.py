"""Fan-out with real processes: exact listening, killed workers, and the order of partitions."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.receivers import Receiver

from .conftest import MARIADB, REDIS, SQLITE
from .harness import Harness, until

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.timeout(600),
    pytest.mark.stacks(SQLITE, REDIS, MARIADB),
]

#: A process that subscribes or emits as it is told, and says what came of it.
PEER = """
import json, sys
import django
django.setup()
from django.db import transaction
from django_webhooks.events import emit
from django_webhooks.models import Subscription
from django_webhooks.models.owner import OwnerKey

print("ready", flush=True)
for line in sys.stdin:
    what, number = line.split()
    owner = OwnerKey("site.shop", number)
    if what == "subscribe":
        Subscription.objects.create(
            name=number, event_types=["thing.*"], owner_type=owner.type, owner_id=owner.id
        )
        print("done", flush=True)
    elif what == "unsubscribe":
        Subscription.objects.filter(owner_id=number).delete()
        print("done", flush=True)
    else:
        with transaction.atomic():
            event = emit("thing.created", {"n": number}, owner=owner)
        print("written" if event else "silence", flush=True)
"""
#: Owners; each is listened to by one process while the other emits.
OWNERS = 250


@contextmanager
def peer(harness: Harness) -> Iterator[Callable[[str], str]]:
    """Run a process, and yield a call that tells it something and returns its answer."""
    child = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", PEER],
        env=harness.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdin is not None
    assert child.stdout is not None

    def tell(line: str) -> str:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(f"{line}\n")
        child.stdin.flush()
        return child.stdout.readline().strip()

    try:
        assert child.stdout.readline().strip() == "ready"
        yield tell
    finally:
        child.stdin.close()
        child.stdout.close()
        child.wait(30)


def deliveries(harness: Harness) -> dict[str, int]:
    """Return how many deliveries there are, events and subscriptions of them, and events left."""
    found: dict[str, int] = harness.python(
        "from django.db.models import Count\n"
        "from django_webhooks.models import Delivery, Event\n"
        "rows = Delivery.objects.order_by()\n"
        "print(json.dumps({'all': rows.count(),"
        " 'pairs': rows.values('event', 'subscription').distinct().count(),"
        " 'events': rows.values('event').distinct().count(),"
        " 'left': Event.objects.exclude(fan_out=None).count()}))"
    )
    return found


def test_who_subscribed_before_an_event_hears_it_from_any_process(harness: Harness) -> None:
    with peer(harness) as one, peer(harness) as other:
        for number in range(OWNERS):
            subscriber, emitter = (one, other) if number % 2 else (other, one)
            # The emitter has just learnt that nobody listens.
            assert emitter(f"emit {number}") == "silence"
            assert subscriber(f"subscribe {number}") == "done"
            for _ in range(2):
                assert emitter(f"emit {number}") == "written"
            # The other process, which subscribed, hears itself as well.
            assert subscriber(f"emit {number}") == "written"
            if number % 5 == 0:
                subscriber(f"unsubscribe {number}")
                # One that was heard a moment ago may be written in vain, and nobody gets it.
                emitter(f"emit {number}")
    harness.python(
        "from django_webhooks.sending.fan_out import fan_out\nfan_out.make_all(using='default')"
    )

    found = deliveries(harness)

    heard = OWNERS - len(range(0, OWNERS, 5))
    assert found == {"all": 3 * heard, "pairs": 3 * heard, "events": 3 * heard, "left": 0}


MANY = 5_000
#: Fans out, and stops in the middle of the third batch, before it is committed.
UNTIL_KILLED = """
import time
import django
django.setup()
from django_webhooks.sending.fan_out import fan_out
store, batches = fan_out._store, []

def store_then(made, *, using):
    store(made, using=using)
    batches.append(made)
    if len(batches) == 3:
        print("in the middle", flush=True)
        time.sleep(600)

fan_out._store = store_then
fan_out.make_all(using="default")
"""


def test_workers_killed_while_they_fan_out_lose_and_double_nothing(harness: Harness) -> None:
    harness.python(
        "from django_webhooks.events import emit\n"
        "from django_webhooks.models import Subscription\n"
        "from django_webhooks.models.event_type_pattern import EventTypePattern\n"
        f"made = [Subscription(name=str(n)) for n in range({MANY})]\n"
        "Subscription.objects.bulk_create(made, batch_size=500)\n"
        "EventTypePattern.objects.bulk_create([EventTypePattern(subscription=one,"
        " pattern='thing.*') for one in made], batch_size=500)\n"
        "emit('thing.created', {'n': 1})\n"
        "emit('thing.created', {'n': 2})"
    )
    made = 0
    for _ in range(2):
        child = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", UNTIL_KILLED],
            env=harness.environment(),
            stdout=subprocess.PIPE,
        )
        assert child.stdout is not None
        assert child.stdout.readline() == b"in the middle\n"
        child.send_signal(signal.SIGKILL)
        child.communicate()
        found = deliveries(harness)
        assert found["all"] == found["pairs"]
        assert made < found["all"] < 2 * MANY
        made = found["all"]

    harness.worker()
    harness.beat()

    until(lambda: not deliveries(harness)["left"], "the sweep makes what was left")
    assert deliveries(harness) == {"all": 2 * MANY, "pairs": 2 * MANY, "events": 2, "left": 0}


SAVE = """
from django.db import transaction
from django_webhooks.events import emit
for number in range({count}):
    with transaction.atomic():
        emit("thing.created", {{"saver": {saver}, "n": number}}, ordering_key="one")
"""


@pytest.mark.stacks(REDIS, MARIADB)
def test_order_under_two_savers_and_two_workers(harness: Harness, receiver: Receiver) -> None:
    harness.subscribe_pair(receiver.url, ordering="key")
    for _ in range(2):
        harness.worker(concurrency=1)
    harness.beat()
    count = 150

    savers = [
        threading.Thread(target=harness.python, args=(SAVE.format(count=count, saver=number),))
        for number in range(2)
    ]
    for saver in savers:
        saver.start()
    for saver in savers:
        saver.join(120)
    until(lambda: len(receiver.requests) >= 2 * count, "all arrived", seconds=120)

    seen = [json.loads(request.body)["data"] for request in receiver.requests]
    for number in range(2):
        assert [one["n"] for one in seen if one["saver"] == number] == list(range(count))


def test_an_eager_project_needs_no_worker(harness: Harness, receiver: Receiver) -> None:
    harness.settings["CELERY_TASK_ALWAYS_EAGER"] = True
    harness.subscribe(receiver.url)

    harness.python("from django_webhooks.events import emit\nemit('thing.created', {'n': 1})")

    assert len(receiver.requests) == 1
    assert deliveries(harness)["left"] == 0

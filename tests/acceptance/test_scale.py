"""The recipes of docs/howto/scale.md, with real processes and servers."""

from __future__ import annotations

import os
import re
import shutil
import signal
import time

import pytest
from kombu import Connection

from django_webhooks import beat
from tests.receivers import Answer
from tests.services import REQUIRED
from tests.unit.test_docs import page

from .conftest import RABBITMQ, REDIS
from .harness import Bouncer, until
from .patience import PATIENT
from .test_main_job import account

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(300)]
PGBOUNCER = shutil.which("pgbouncer") or os.path.exists("/usr/sbin/pgbouncer")


def recipes(heading):
    """Return the blocks of code in Python below a heading of the page."""
    section = page("howto/scale.md").split(f"## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"```python\n(.*?)```", section, re.S)


@pytest.fixture
def quorum(harness):
    """Queues of the recipe, under names of the harness's own."""
    [text] = recipes("RabbitMQ: quorum queues")
    names = {beat.QUEUE: harness.queue, beat.PERIODIC_QUEUE: f"{harness.queue}-periodic"}
    routes = {task: {"queue": names[route["queue"]]} for task, route in beat.ROUTES.items()}
    text = text.replace('"default"', repr(f"{harness.queue}-default"))
    text = text.replace("{**beat.ROUTES}", repr(routes))
    text = text.replace("beat.PERIODIC_QUEUE", repr(names[beat.PERIODIC_QUEUE]))
    harness.recipe = text.replace("beat.QUEUE", repr(harness.queue))
    assert harness.recipe.count(harness.queue) == 4 + len(routes)
    yield
    with Connection(harness.broker) as connection:
        channel = connection.default_channel
        levels = [f"celery_delayed_{level}" for level in range(28)]
        own = [harness.queue, f"{harness.queue}-default", f"{harness.queue}-periodic", *levels]
        for name in own:
            channel.queue_delete(name)
        for name in (*own, "celery_delayed_delivery"):
            channel.exchange_delete(name)


def waits(harness, queue):
    """Return how many messages wait in a queue, which must be a quorum queue."""
    with Connection(harness.broker) as connection:
        arguments = {"x-queue-type": "quorum"}
        declared = connection.default_channel.queue_declare(
            queue, durable=True, auto_delete=False, arguments=arguments
        )
        return declared.message_count


def logs(harness):
    return "".join(path.read_text(errors="replace") for path in harness.folder.glob("*.log"))


@pytest.mark.stacks(RABBITMQ)
@pytest.mark.usefixtures("quorum")
def test_retries_wait_in_rabbitmq_and_hold_up_nothing(harness, receiver):
    receiver.answers = [Answer(503), Answer(204)]
    harness.settings = {
        **PATIENT,
        "WEBHOOKS_RETRY_BASE_SECONDS": 15.0,
        "CELERY_WORKER_PREFETCH_MULTIPLIER": 1,
        "CELERY_WORKER_ENABLE_REMOTE_CONTROL": False,
    }
    harness.subscribe(receiver.url)
    harness.worker(
        concurrency=1
    )  # One message at a time, and no beat: nothing else brings it back.
    harness.web()

    harness.ask("failing")
    until(lambda: len(receiver.requests) == 1, "nothing was sent")
    time.sleep(1)
    harness.ask("meanwhile")

    account(harness, receiver, repeats=1)
    failing, meanwhile, again = receiver.ids
    assert failing == again != meanwhile, "the retry that waits holds up others"
    assert receiver.requests[2].at - receiver.requests[0].at > 10
    assert "direct exchange" not in logs(harness)
    # A worker says what it has done with a message after it has recorded the delivery.
    until(lambda: waits(harness, harness.queue) == 0, "a message is left")


@pytest.mark.stacks(RABBITMQ)
@pytest.mark.usefixtures("quorum")
def test_a_worker_that_is_killed_loses_nothing(harness, receiver):
    receiver.answers = [Answer(204, delay=0.5)]
    # A receiver that stands still for a while causes no repeats beside those of the kill.
    harness.settings = {"WEBHOOKS_TIMEOUT_SECONDS": 6.0, "WEBHOOKS_LEASE_SECONDS": 10.0}
    harness.subscribe(receiver.url)
    killed = harness.worker()
    harness.beat()
    harness.web()
    for number in range(10):
        harness.ask(f"thing {number}")
    until(lambda: receiver.requests, "nothing was sent")

    harness.stop(killed, signal.SIGKILL)
    harness.worker()

    account(harness, receiver, repeats=10)


@pytest.fixture
def bouncer(harness, tmp_path):
    """Let the harness reach its database through PgBouncer, in transaction mode."""
    if not PGBOUNCER:
        (pytest.fail if REQUIRED else pytest.skip)("needs PgBouncer")
    made = Bouncer(tmp_path, connections=3)
    harness.database = made.before(harness.database)
    _, _, harness.recipe, _ = recipes("PostgreSQL: connections")
    yield made
    made.close()


@pytest.mark.stacks(REDIS)
@pytest.mark.usefixtures("bouncer")
def test_many_processes_share_few_connections_of_pgbouncer(harness, receiver):
    receiver.answers = [Answer(503), Answer(204, delay=0.05)]
    harness.subscribe(receiver.url)
    count = 200
    harness.emit(count)
    workers = [harness.worker(concurrency=3) for _ in range(2)]
    harness.beat()
    harness.web()
    harness.ask("thing")
    until(lambda: len(receiver.requests) > 30, "nothing was sent")

    harness.stop(workers[0], signal.SIGKILL)

    account(harness, receiver, repeats=100)
    assert len(receiver.requests) > count
    code = (
        "from django_webhooks import tasks\nfrom django_webhooks.auditing.tasks import audit\n"
        "tasks.sweep(); tasks.prune(); tasks.roll_up(); audit()\n"
        "from django.db import connection\n"
        "print(json.dumps([connection.settings_dict['DISABLE_SERVER_SIDE_CURSORS']]))"
    )
    assert harness.python(code) == [True]


@pytest.mark.stacks(REDIS)
def test_psycopgs_pool_in_a_worker_of_threads(harness, receiver):
    _, _, _, harness.recipe = recipes("PostgreSQL: connections")
    harness.settings = PATIENT
    harness.subscribe(receiver.url)
    harness.emit(100)
    harness.worker(pool="threads", concurrency=4)
    harness.beat()

    account(harness, receiver)


@pytest.mark.stacks(REDIS)
def test_statements_are_prepared_on_a_connection_that_is_kept(harness, receiver):
    kept, prepared, *_ = recipes("PostgreSQL: connections")
    harness.recipe = kept + prepared
    harness.settings = PATIENT
    harness.subscribe(receiver.url)
    harness.worker(concurrency=1)
    harness.beat()
    # One message after the other, so that the worker's connection sees the same statements again.
    for number in range(1, 9):
        harness.emit(1)
        until(lambda n=number: harness.statuses() == {"succeeded": n}, f"event {number} is stuck")

    names = harness.python(
        "from django.db import connection\n"
        "from django_webhooks.events import emit\n"
        "for _ in range(8):\n"
        "    emit('thing.created', {'id': 1, 'name': ''})\n"
        "with connection.cursor() as cursor:\n"
        "    cursor.execute('SELECT statement FROM pg_prepared_statements')\n"
        "    print(json.dumps([one for one, in cursor.fetchall()]))"
    )
    assert any('INSERT INTO "django_webhooks_event"' in one for one in names)
    until(lambda: harness.statuses() == {"succeeded": 16}, f"stuck: {harness.statuses()}")
    assert len(receiver.ids) == len(set(receiver.ids)) == 16


@pytest.mark.stacks(REDIS)
def test_connections_are_kept_between_tasks(harness, receiver):
    harness.recipe, *_ = recipes("PostgreSQL: connections")
    harness.subscribe(receiver.url)
    harness.worker(concurrency=1)

    def connections():
        return harness.python(
            "from django.db import connection\n"
            "with connection.cursor() as cursor:\n"
            "    cursor.execute('SELECT pid FROM pg_stat_activity WHERE datname = "
            "current_database() AND pid <> pg_backend_pid()')\n"
            "    print(json.dumps(sorted(cursor.fetchall())))"
        )

    def connection_after_a_task():
        harness.emit(1)
        harness.python("from django_webhooks import tasks\ntasks.deliver.delay()")
        until(lambda: set(harness.statuses()) == {"succeeded"}, "it did not arrive")
        # Those of the scripts end a moment after the scripts.
        return until(lambda: len(found := connections()) == 1 and found, "there is not one")

    assert connection_after_a_task() == connection_after_a_task()


@pytest.mark.stacks(REDIS)
def test_queues_of_their_own(harness, receiver):
    [text] = recipes("Workers")
    harness.recipe = text
    code = (
        "from django_webhooks import tasks\nfrom tests.acceptance.site.celery import app\n"
        "names = ['deliver', 'sweep', 'check_health', 'prune']\n"
        "print(json.dumps([app.amqp.router.route({}, f'django_webhooks.tasks.{name}')"
        "['queue'].name for name in names]))"
    )

    assert harness.python(code) == [
        "webhooks",
        "webhooks-periodic",
        "webhooks-periodic",
        "webhooks",
    ]

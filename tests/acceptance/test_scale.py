"""The recipes of docs/howto/scale.md, with real processes and servers."""

from __future__ import annotations

import os
import re
import shutil
import signal
import time

import pytest
from kombu import Connection

from tests.receivers import Answer
from tests.services import REQUIRED
from tests.unit.test_docs import page

from .conftest import RABBITMQ, REDIS
from .stage import Bouncer, until
from .test_main_job import account

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(180)]
PGBOUNCER = shutil.which("pgbouncer") or os.path.exists("/usr/sbin/pgbouncer")


def recipes(heading):
    """Return the blocks of code in Python below a heading of the page."""
    section = page("howto/scale.md").split(f"## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"```python\n(.*?)```", section, re.S)


@pytest.fixture
def quorum(stage):
    """Queues of the recipe, under names of the stage's own."""
    [text] = recipes("RabbitMQ: quorum queues")
    routes = {"django_webhooks.tasks.*": {"queue": stage.queue}}
    text = text.replace('"default"', repr(f"{stage.queue}-default"))
    text = text.replace("{**beat.ROUTES}", repr(routes))
    stage.recipe = text.replace("beat.QUEUE", repr(stage.queue))
    assert stage.recipe.count(stage.queue) == 4
    yield
    with Connection(stage.broker) as connection:
        channel = connection.default_channel
        levels = [f"celery_delayed_{level}" for level in range(28)]
        for name in (stage.queue, f"{stage.queue}-default", *levels):
            channel.queue_delete(name)
        for name in (stage.queue, f"{stage.queue}-default", *levels, "celery_delayed_delivery"):
            channel.exchange_delete(name)


def waits(stage, queue):
    """Return how many messages wait in a queue, which must be a quorum queue."""
    with Connection(stage.broker) as connection:
        arguments = {"x-queue-type": "quorum"}
        declared = connection.default_channel.queue_declare(
            queue, durable=True, auto_delete=False, arguments=arguments
        )
        return declared.message_count


def logs(stage):
    return "".join(path.read_text(errors="replace") for path in stage.folder.glob("*.log"))


@pytest.mark.stacks(RABBITMQ)
@pytest.mark.usefixtures("quorum")
def test_retries_wait_in_rabbitmq_and_hold_up_nothing(stage, receiver):
    receiver.answers = [Answer(503), Answer(204)]
    stage.settings = {
        "WEBHOOKS_RETRY_BASE": 6.0,
        "CELERY_WORKER_PREFETCH_MULTIPLIER": 1,
        "CELERY_WORKER_ENABLE_REMOTE_CONTROL": False,
    }
    stage.subscribe(receiver.url)
    stage.worker(concurrency=1)  # One message at a time, and no beat: nothing else brings it back.
    stage.web()

    stage.ask("failing")
    until(lambda: len(receiver.requests) == 1, "nothing was sent")
    time.sleep(1)
    began = time.monotonic()
    stage.ask("meanwhile")
    until(lambda: len(receiver.requests) == 2, "the retry that waits holds up others")
    assert time.monotonic() - began < 3

    account(stage, receiver, repeats=1)
    assert receiver.requests[2].at - receiver.requests[0].at > 4
    assert "direct exchange" not in logs(stage)
    assert waits(stage, stage.queue) == 0


@pytest.mark.stacks(RABBITMQ)
@pytest.mark.usefixtures("quorum")
def test_a_worker_that_is_killed_loses_nothing(stage, receiver):
    receiver.answers = [Answer(204, delay=0.5)]
    stage.subscribe(receiver.url)
    killed = stage.worker()
    stage.beat()
    stage.web()
    for number in range(10):
        stage.ask(f"thing {number}")
    until(lambda: receiver.requests, "nothing was sent")

    stage.stop(killed, signal.SIGKILL)
    stage.worker()

    account(stage, receiver, repeats=10)


@pytest.fixture
def bouncer(stage, tmp_path):
    """Let the stage reach its database through PgBouncer, in transaction mode."""
    if not PGBOUNCER:
        (pytest.fail if REQUIRED else pytest.skip)("needs PgBouncer")
    made = Bouncer(tmp_path, connections=3)
    stage.database = made.before(stage.database)
    _, _, stage.recipe, _ = recipes("PostgreSQL: connections")
    yield made
    made.close()


@pytest.mark.stacks(REDIS)
@pytest.mark.usefixtures("bouncer")
def test_many_processes_share_few_connections_of_pgbouncer(stage, receiver):
    receiver.answers = [Answer(503), Answer(204, delay=0.05)]
    stage.subscribe(receiver.url)
    count = 200
    stage.emit(count)
    workers = [stage.worker(concurrency=3) for _ in range(2)]
    stage.beat()
    stage.web()
    stage.ask("thing")
    until(lambda: len(receiver.requests) > 30, "nothing was sent")

    stage.stop(workers[0], signal.SIGKILL)

    account(stage, receiver, repeats=100)
    assert len(receiver.requests) > count
    code = (
        "from django_webhooks.auditing import audit\nfrom django_webhooks import tasks\n"
        "tasks.sweep(); tasks.prune(); tasks.tally(); tasks.audit()\n"
        "from django.db import connection\n"
        "print(json.dumps([connection.settings_dict['DISABLE_SERVER_SIDE_CURSORS']]))"
    )
    assert stage.python(code) == [True]


@pytest.mark.stacks(REDIS)
def test_psycopgs_pool_in_a_worker_of_threads(stage, receiver):
    _, _, _, stage.recipe = recipes("PostgreSQL: connections")
    stage.subscribe(receiver.url)
    stage.emit(100)
    stage.worker(pool="threads", concurrency=4)
    stage.beat()

    account(stage, receiver)


@pytest.mark.stacks(REDIS)
def test_statements_are_prepared_on_a_connection_that_is_kept(stage, receiver):
    kept, prepared, *_ = recipes("PostgreSQL: connections")
    stage.recipe = kept + prepared
    stage.subscribe(receiver.url)
    stage.worker(concurrency=1)
    stage.beat()
    # One message after the other, so that the worker's connection sees the same statements again.
    for number in range(1, 9):
        stage.emit(1)
        until(lambda n=number: stage.statuses() == {"succeeded": n}, f"event {number} is stuck")

    names = stage.python(
        "from django.db import connection\n"
        "from django_webhooks.events import emit\n"
        "for _ in range(8):\n"
        "    emit('thing.created', {'id': 1, 'name': ''})\n"
        "with connection.cursor() as cursor:\n"
        "    cursor.execute('SELECT statement FROM pg_prepared_statements')\n"
        "    print(json.dumps([one for one, in cursor.fetchall()]))"
    )
    assert any("django_webhooks_record_1" in one for one in names)
    until(lambda: stage.statuses() == {"succeeded": 16}, f"stuck: {stage.statuses()}")
    assert len(receiver.ids) == len(set(receiver.ids)) == 16


@pytest.mark.stacks(REDIS)
def test_connections_are_kept_between_tasks(stage, receiver):
    stage.recipe, *_ = recipes("PostgreSQL: connections")
    stage.subscribe(receiver.url)
    stage.worker(concurrency=1)

    def connections_after_a_task():
        stage.emit(1)
        stage.python("from django_webhooks import tasks\ntasks.deliver.delay()")
        until(lambda: set(stage.statuses()) == {"succeeded"}, "it did not arrive")
        return stage.python(
            "from django.db import connection\n"
            "with connection.cursor() as cursor:\n"
            "    cursor.execute('SELECT pid FROM pg_stat_activity WHERE datname = "
            "current_database() AND pid <> pg_backend_pid()')\n"
            "    print(json.dumps(sorted(cursor.fetchall())))"
        )

    first = connections_after_a_task()
    assert len(first) == 1
    assert connections_after_a_task() == first


@pytest.mark.stacks(REDIS)
def test_queues_of_their_own(stage, receiver):
    [text] = recipes("Workers")
    stage.recipe = text.replace("**beat.ROUTES", "'django_webhooks.tasks.*': {'queue': 'webhooks'}")
    code = (
        "from django_webhooks import tasks\nfrom tests.acceptance.site.celery import app\n"
        "names = ['deliver', 'sweep', 'check_health', 'prune']\n"
        "print(json.dumps([app.amqp.router.route({}, f'django_webhooks.tasks.{name}')"
        "['queue'].name for name in names]))"
    )

    assert stage.python(code) == ["webhooks", "webhooks", "webhooks-health", "webhooks"]

"""What projects merge into their Celery settings."""

from __future__ import annotations

from datetime import timedelta

import pytest
from celery import Celery
from celery.beat import Service
from celery.concurrency import get_implementation
from celery.signals import beat_init, celeryd_after_setup
from kombu import Queue

from django_webhooks import beat, tasks
from django_webhooks.auditing import beat as auditing_beat
from django_webhooks.auditing import tasks as auditing_tasks
from django_webhooks.inbox import tasks as inbox_tasks

TASKS = {
    "django_webhooks.tasks.deliver": tasks.deliver,
    "django_webhooks.tasks.sweep": tasks.sweep,
    "django_webhooks.tasks.check_health": tasks.check_health,
    "django_webhooks.tasks.notify": tasks.notify,
    "django_webhooks.tasks.prune": tasks.prune,
    "django_webhooks.tasks.replay": tasks.replay,
    "django_webhooks.tasks.roll_up": tasks.roll_up,
    "django_webhooks.auditing.tasks.audit": auditing_tasks.audit,
    "django_webhooks.inbox.tasks.handle": inbox_tasks.handle,
}


#: What is short, and asked for every few seconds, or told at once.
PERIODIC = {"sweep", "check_health", "notify", "roll_up"}


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("routes", [beat.ROUTES, dict(reversed(beat.ROUTES.items()))])
def test_a_task_keeps_its_name_and_goes_to_its_queue(name, routes):
    app = Celery(set_as_current=False)
    app.conf.task_routes = routes

    queue = app.amqp.router.route({}, name)["queue"].name

    assert TASKS[name].name == name
    is_periodic = name.rpartition(".")[2] in PERIODIC
    assert queue == (beat.PERIODIC_QUEUE if is_periodic else beat.QUEUE)


SCHEDULE = {**beat.SCHEDULE, **auditing_beat.SCHEDULE}


@pytest.mark.parametrize("entry", SCHEDULE)
def test_an_entry_of_the_schedule_is_a_task_that_takes_nothing(entry):
    scheduled = SCHEDULE[entry]

    assert scheduled["task"] in TASKS
    assert scheduled["schedule"] > 0
    assert "args" not in scheduled


def test_the_sweep_runs_every_ten_seconds():
    assert beat.SCHEDULE["django_webhooks.sweep"]["schedule"] == 10.0


@pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))
def test_a_task_is_acknowledged_when_it_is_done_and_keeps_no_result(task):
    assert task.acks_late
    assert task.ignore_result


@pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))
def test_a_task_has_time_limits_of_its_own(task):
    assert isinstance(task, tasks.WebhooksTask)
    assert (task.soft_time_limit, task.time_limit) == (3600, 3660)


@pytest.mark.parametrize("base", [tasks.WebhooksTask, tasks.DeliveryTask])
@pytest.mark.parametrize(
    ("annotated", "expected"),
    [
        pytest.param({}, (3600, 3660), id="none"),
        pytest.param({"time_limit": 30}, (30, 30), id="hard"),
        pytest.param({"soft_time_limit": 20}, (20, 3660), id="soft"),
        pytest.param({"time_limit": 30, "soft_time_limit": 20}, (20, 30), id="both"),
        pytest.param({"time_limit": None, "soft_time_limit": None}, (None, None), id="nothing"),
    ],
)
def test_limits_that_are_meant_for_a_task_are_its_own(base, annotated, expected):
    app = Celery(set_as_current=False)
    app.conf.task_annotations = {"*": annotated}

    def work():
        """Do nothing."""

    # Shared, it would be registered with each app of the process.
    ours = app.task(work, name="ours", base=type("Own", (base,), {}), shared=False)

    assert (ours.soft_time_limit, ours.time_limit) == expected


def test_a_delivery_is_handed_on_where_its_worker_is_lost():
    assert tasks.deliver.reject_on_worker_lost


@pytest.mark.parametrize(
    ("task", "hours", "is_put_off"),
    [
        pytest.param("django_webhooks.tasks.sweep", 1, False, id="ours, from the future"),
        pytest.param("django_webhooks.tasks.sweep", -1, False, id="ours, from the past"),
        pytest.param("shop.tasks.report", 1, True, id="not ours"),
    ],
)
def test_a_beat_whose_clock_was_wrong_puts_off_nothing_of_ours(tmp_path, task, hours, is_put_off):
    app = Celery(set_as_current=False)
    app.conf.beat_schedule = {"it": {"task": task, "schedule": 10.0}}
    app.conf.beat_schedule_filename = str(tmp_path / "schedule")
    service = Service(app)
    service.scheduler.schedule["it"].last_run_at = app.now() + timedelta(hours=hours)
    service.sync()
    # What the next beat reads from the file.
    again = Service(app)

    beat_init.send(sender=again)

    _, seconds = again.scheduler.schedule["it"].is_due()
    again.sync()
    assert (seconds > 10) == is_put_off


class Worker:
    """What Celery tells of a worker before it starts."""

    def __init__(self, pool, *queues):
        self.pool_cls = get_implementation(pool)
        self.app = Celery(set_as_current=False)
        self.app.conf.task_routes = beat.ROUTES
        self.app.conf.task_queues = [Queue("default"), *map(Queue, QUEUES)]
        self.app.amqp.queues.select(queues)


QUEUES = [beat.QUEUE, beat.PERIODIC_QUEUE]


@pytest.mark.parametrize("queue", QUEUES)
def test_a_worker_whose_deadlines_would_not_hold_does_not_start(queue):
    with pytest.raises(SystemExit, match=rf"eventlet may not consume {queue}: .* --pool prefork"):
        celeryd_after_setup.send(sender="w", instance=Worker("eventlet", "default", queue))


@pytest.mark.parametrize(
    "worker",
    [
        pytest.param(("eventlet", "default"), id="eventlet for other tasks"),
        *(pytest.param((pool, *QUEUES), id=pool) for pool in ("prefork", "threads", "gevent")),
        pytest.param(("solo", *QUEUES), id="solo"),
    ],
)
def test_other_workers_start(worker):
    celeryd_after_setup.send(sender="w", instance=Worker(*worker))

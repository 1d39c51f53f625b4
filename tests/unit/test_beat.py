"""What projects merge into their Celery settings."""

from __future__ import annotations

import fnmatch
from datetime import timedelta

import pytest
from celery import Celery
from celery.beat import Service
from celery.signals import beat_init

from django_webhooks import beat, tasks

TASKS = {
    "django_webhooks.tasks.deliver": tasks.deliver,
    "django_webhooks.tasks.sweep": tasks.sweep,
    "django_webhooks.tasks.check_health": tasks.check_health,
    "django_webhooks.tasks.notify": tasks.notify,
    "django_webhooks.tasks.prune": tasks.prune,
    "django_webhooks.tasks.replay": tasks.replay,
    "django_webhooks.tasks.tally": tasks.tally,
    "django_webhooks.tasks.audit": tasks.audit,
}


@pytest.mark.parametrize("name", TASKS)
def test_a_task_keeps_its_name_and_goes_to_our_queue(name):
    [(pattern, route)] = beat.ROUTES.items()

    assert TASKS[name].name == name
    assert fnmatch.fnmatch(name, pattern)
    assert route == {"queue": beat.QUEUE}


@pytest.mark.parametrize("entry", beat.SCHEDULE)
def test_an_entry_of_the_schedule_is_a_task_that_takes_nothing(entry):
    scheduled = beat.SCHEDULE[entry]

    assert scheduled["task"] in TASKS
    assert scheduled["schedule"] > 0
    assert "args" not in scheduled


def test_the_sweep_runs_every_ten_seconds():
    assert beat.SCHEDULE["django_webhooks.sweep"]["schedule"] == 10.0


@pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))
def test_a_task_is_acknowledged_when_it_is_done_and_keeps_no_result(task):
    assert task.acks_late
    assert task.ignore_result


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

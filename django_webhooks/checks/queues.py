"""The project's Celery settings, as far as webhooks depend on them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from django.apps import apps
from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Tags, Warning
from django.db import connections

from .. import beat, extensions, tasks
from .predicates import is_number
from .system_check import system_check

# Source: https://docs.celeryq.dev/en/stable/getting-started/backends-and-brokers/redis.html
_REDIS_VISIBILITY = 3600


#: What beat has to run, the id of the warning where it does not, and what follows.
_PERIODIC = [
    (
        "django_webhooks.tasks.sweep",
        "webhooks.W002",
        "what the broker loses, and retries that wait for long, are not sent.",
    ),
    (
        "django_webhooks.tasks.check_health",
        "webhooks.W007",
        "endpoints that fell stay unhealthy, and nobody is told of outages.",
    ),
    (
        "django_webhooks.tasks.roll_up",
        "webhooks.W011",
        "the overview of the admin and webhooks_stats show no figures.",
    ),
]


#: The rows that django-celery-beat runs.
_STORED: Any = "django_celery_beat.PeriodicTask"


@system_check("webhooks")
def check_schedule(**kwargs: Any) -> Iterator[CheckMessage]:
    """Check that beat sweeps and checks health, unless its schedule is in the database."""
    if not apps.is_installed("django_celery_beat"):
        yield from _unscheduled(_in_settings())


@system_check(Tags.database)
def check_stored_schedule(
    databases: Sequence[str] | None = None, **kwargs: Any
) -> Iterator[CheckMessage]:
    """Check the same of the tables of django-celery-beat, to which beat copies the settings."""
    if not apps.is_installed("django_celery_beat"):
        return
    rows = apps.get_model(_STORED)._base_manager.all()
    if rows.db not in (databases or ()):
        return
    if rows.model._meta.db_table not in connections[rows.db].introspection.table_names():
        # Before its migrations.
        return
    stored = rows.filter(enabled=True, task__startswith="django_webhooks.")
    yield from _unscheduled(_in_settings() | set(stored.values_list("task", flat=True)))


def _in_settings() -> set[str]:
    """Return the names of the tasks that beat runs by settings."""
    return {
        str(entry.get("task"))
        for schedule in both("beat_schedule")
        for entry in (schedule.values() if isinstance(schedule, Mapping) else ())
        if isinstance(entry, Mapping)
    }


def _unscheduled(scheduled: set[str]) -> Iterator[CheckMessage]:
    further = [one for app in extensions.installed() for one in app.periodic_tasks]
    for task, id, effect in [*_PERIODIC, *further]:
        if task not in scheduled:
            yield Warning(
                f"CELERY_BEAT_SCHEDULE does not run {task}: {effect}",
                hint=f"Put **{task.partition('.tasks.')[0]}.beat.SCHEDULE into "
                "CELERY_BEAT_SCHEDULE, and run beat.",
                id=id,
            )


@system_check("webhooks", deploy=True)
def check_routes(**kwargs: Any) -> Iterator[CheckMessage]:
    """Check that deliveries have a queue to themselves."""
    if any(_routes(router, str(tasks.deliver.name)) for router in both("task_routes")):
        return
    yield Warning(
        "The tasks of django_webhooks share a queue with others, which delays both.",
        hint="Set CELERY_TASK_ROUTES = {**django_webhooks.beat.ROUTES} and start a worker "
        "for each of its queues.",
        id="webhooks.W005",
    )


@system_check("webhooks", deploy=True)
def check_periodic_queue(**kwargs: Any) -> Iterator[CheckMessage]:
    """Check that what is asked for every few seconds has another queue than deliveries."""
    for router in both("task_routes"):
        long = _queue_of(router, str(tasks.deliver.name))
        same = [
            name
            for name in (tasks.sweep.name, tasks.check_health.name, tasks.notify.name)
            if long is not None and _queue_of(router, str(name)) == long
        ]
        if same:
            yield Warning(
                f"{', '.join(same)} are routed to the queue {long!r} of deliveries, and wait "
                "behind these: people are told late of an outage, and what the broker lost "
                "is found late.",
                hint="Set CELERY_TASK_ROUTES = {**django_webhooks.beat.ROUTES}, and start a "
                f"worker for the queue {beat.PERIODIC_QUEUE!r} beside the other.",
                id="webhooks.W060",
            )
            return


@system_check("webhooks")
def check_queues(**kwargs: Any) -> Iterator[CheckMessage]:
    """Check that workers know each queue that tasks are routed to, as far as settings tell."""
    known = [_names(queues) for queues in both("task_queues")]
    if not any(known):
        return
    wanted = {
        queue
        for router in both("task_routes")
        for task in (tasks.deliver, tasks.check_health, tasks.sweep, *_lasting())
        if (queue := _queue_of(router, str(task.name))) is not None
    }
    missing = sorted(wanted.difference(*known))
    if not missing:
        return
    yield Warning(
        f"CELERY_TASK_QUEUES does not name {', '.join(missing)}: a worker that is started "
        "without -Q consumes nothing from there.",
        hint="Add kombu.Queue(django_webhooks.beat.QUEUE) and "
        "kombu.Queue(django_webhooks.beat.PERIODIC_QUEUE) to CELERY_TASK_QUEUES.",
        id="webhooks.W061",
    )


@system_check("webhooks")
def check_horizon(**kwargs: Any) -> Iterator[CheckMessage]:
    """Check that no message waits for longer than the broker lets it."""
    limit = _visibility_timeout()
    if limit is None or limit > tasks.CELERY_HORIZON_SECONDS:
        return
    yield Warning(
        f"The broker's visibility_timeout is {limit:g} seconds, and a retry may wait as a "
        f"message for {tasks.CELERY_HORIZON_SECONDS:g}: the broker repeats it meanwhile.",
        hint="Raise the visibility_timeout in CELERY_BROKER_TRANSPORT_OPTIONS.",
        id="webhooks.W003",
    )


def _lasting() -> list[Any]:
    return [task for app in extensions.installed() for task, _seconds in app.lasting_tasks()]


def both(name: str) -> list[Any]:
    """Return a setting of Celery as Django's settings and as the current Celery app have it."""
    values = (
        getattr(django_settings, f"CELERY_{name.upper()}", None),
        getattr(tasks.deliver.app.conf, name, None),
    )
    return [value for value in values if value]


def _names(queues: Any) -> set[str]:
    """Return the names of Celery's ``task_queues``, which are a mapping or a list."""
    if isinstance(queues, Mapping):
        return {str(name) for name in queues}
    if not isinstance(queues, list | tuple | set | frozenset):
        return set()
    return {str(getattr(one, "name", one)) for one in queues}


def _queue_of(router: Any, task: str) -> str | None:
    """Return the queue that ``task_routes`` give a task, or None where only Celery can tell.

    As in Celery, in a mapping the task's own name goes before a pattern.
    Source: https://docs.celeryq.dev/en/stable/userguide/routing.html#automatic-routing
    """
    if isinstance(router, Mapping):
        found = router.get(task)
        if found is None:
            found = next((to for one, to in router.items() if _matches(one, task)), None)
        found = found.get("queue") if isinstance(found, Mapping) else found
        return None if found is None else str(getattr(found, "name", found))
    if isinstance(router, list | tuple):
        if len(router) == 2 and isinstance(router[0], str | re.Pattern):
            return _queue_of({router[0]: router[1]}, task)
        return next((one for each in router if (one := _queue_of(each, task)) is not None), None)
    return None


def _routes(router: Any, task: str) -> bool:
    """Say whether Celery's ``task_routes`` send a task somewhere; a function may."""
    if isinstance(router, Mapping):
        return any(_matches(pattern, task) for pattern in router)
    if isinstance(router, list | tuple):
        # Pairs, or routers of any kind.
        if len(router) == 2 and isinstance(router[0], str | re.Pattern):
            return _matches(router[0], task)
        return any(_routes(one, task) for one in router)
    return True


def _matches(pattern: Any, task: str) -> bool:
    if isinstance(pattern, re.Pattern):
        return pattern.match(task) is not None
    return fnmatchcase(task, str(pattern))


def _visibility_timeout() -> float | None:
    for options in both("broker_transport_options"):
        found = options.get("visibility_timeout") if isinstance(options, Mapping) else None
        if is_number(found):
            return float(found)
    urls = [str(url) for url in both("broker_url")]
    if any(url.startswith(("redis:", "rediss:", "sentinel:")) for url in urls):
        return _REDIS_VISIBILITY
    return None

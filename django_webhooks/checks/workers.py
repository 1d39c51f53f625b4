"""How the project runs tasks: the pool of its workers, time limits, eagerness, commits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error, Warning

from .. import extensions, tasks
from ..conf import settings
from ..sending import database, health_checks, worker
from .predicates import is_number
from .queues import both
from .system_check import system_check

#: Seconds that a task may need beside those that settings give it.
_SPARE = 10.0


@system_check("webhooks")
def check_pool(**kwargs: Any) -> Iterator[CheckMessage]:
    """Check that workers have a pool in which deadlines hold."""
    if not any(tasks.is_unfit_pool(pool) for pool in both("worker_pool")):
        return
    yield Error(
        f"CELERY_WORKER_POOL is eventlet: {tasks.UNFIT_POOL}",
        hint="Use the pool prefork, threads, gevent or solo for workers of these tasks.",
        id="webhooks.E080",
    )


@system_check("webhooks")
def check_time_limits(**kwargs: Any) -> Iterator[CheckMessage]:
    """Check that no task of ours is cut off before a run of it can be over.

    The project's ``task_time_limit`` is not theirs; what ``task_annotations`` gives them is.
    """
    too_short = [
        f"{task.name}: {name}={limit:g} (at least {needed:g})"
        for task, needed in _needed()
        for name in ("soft_time_limit", "time_limit")
        if is_number(limit := getattr(task, name, None)) and 0 < limit < needed
    ]
    if not too_short:
        return
    yield Warning(
        "Time limits cut tasks off before they are done, so that what was sent may be sent "
        f"again: {', '.join(too_short)}.",
        hint="Leave the tasks of django_webhooks out of CELERY_TASK_ANNOTATIONS: they have "
        "limits of an hour. Where WEBHOOKS_LEASE_SECONDS is nearly as long as that, "
        "lower it.",
        id="webhooks.W062",
    )


@system_check("webhooks", deploy=True)
def check_eager(**kwargs: Any) -> Iterator[CheckMessage]:
    """Check that nobody's save waits for other people's servers."""
    if not any(both("task_always_eager")):
        return
    yield Warning(
        "CELERY_TASK_ALWAYS_EAGER is on: each save that is told waits for its receivers.",
        hint="Turn it off in production, and run a worker.",
        id="webhooks.W064",
    )


@system_check("webhooks")
def check_commits(**kwargs: Any) -> Iterator[CheckMessage]:
    """Check that Django knows when something is committed."""
    using = database.alias()
    options: Any = django_settings.DATABASES.get(using, {})
    if options.get("AUTOCOMMIT", True):
        return
    yield Warning(
        f"DATABASES[{using!r}] has AUTOCOMMIT off: no worker is told of an event at its "
        "commit, so that it waits for the next sweep.",
        hint="Use transaction.atomic() in place of transactions that are ended by hand.",
        id="webhooks.W063",
    )


def _needed() -> list[tuple[Any, float]]:
    """Return the tasks that settings give time to, with the seconds that a run may take."""
    # A request that begins at the end of a run ends before its lease.
    lease = settings.WEBHOOKS_LEASE_SECONDS
    if not is_number(lease):
        return []
    return [
        (tasks.deliver, worker.DRAIN_SECONDS + lease + _SPARE),
        *(
            (task, seconds + _SPARE)
            for app in extensions.installed()
            for task, seconds in app.lasting_tasks()
        ),
        (tasks.check_health, health_checks.PROBE_SECONDS * 2 + _SPARE),
        (tasks.sweep, _SPARE),
        (tasks.replay, _SPARE),
        (tasks.prune, _SPARE),
    ]

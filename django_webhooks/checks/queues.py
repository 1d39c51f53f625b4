"""The project's Celery settings, as far as webhooks depend on them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

from django.apps import apps
from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Warning, register

from .. import tasks
from ..conf import settings
from .predicates import is_number

# Source: https://docs.celeryq.dev/en/stable/getting-started/backends-and-brokers/redis.html
_REDIS_VISIBILITY = 3600


#: What beat has to run, the id of the warning where it does not, and what follows.
_PERIODIC = [
    (
        "sweep",
        "webhooks.W002",
        "what the broker loses, and retries that wait for long, are not sent.",
    ),
    (
        "check_health",
        "webhooks.W007",
        "endpoints that fell stay unhealthy, and nobody is told of outages.",
    ),
    (
        "tally",
        "webhooks.W011",
        "the overview of the admin and webhooks_stats show no figures.",
    ),
    (
        "audit",
        "webhooks.W021",
        "nobody is told of what is insecure, old or tampered with.",
    ),
]


@register("webhooks")
def check_schedule(**kwargs: Any) -> list[CheckMessage]:
    """Check that beat sweeps and checks health, unless its schedule is in the database."""
    if apps.is_installed("django_celery_beat"):
        return []
    scheduled = {
        str(entry.get("task"))
        for schedule in both("beat_schedule")
        for entry in (schedule.values() if isinstance(schedule, Mapping) else ())
        if isinstance(entry, Mapping)
    }
    return [
        Warning(
            f"CELERY_BEAT_SCHEDULE does not run django_webhooks.tasks.{task}: {effect}",
            hint="Set CELERY_BEAT_SCHEDULE = {**django_webhooks.beat.SCHEDULE} and run beat.",
            id=id,
        )
        for task, id, effect in _PERIODIC
        if f"django_webhooks.tasks.{task}" not in scheduled
    ]


@register("webhooks", deploy=True)
def check_routes(**kwargs: Any) -> list[CheckMessage]:
    """Check that deliveries have a queue to themselves."""
    if any(_routes(router, str(tasks.deliver.name)) for router in both("task_routes")):
        return []
    return [
        Warning(
            "The tasks of django_webhooks share a queue with others, which delays both.",
            hint="Set CELERY_TASK_ROUTES = {**django_webhooks.beat.ROUTES} and start a worker "
            "for that queue.",
            id="webhooks.W005",
        )
    ]


@register("webhooks")
def check_horizon(**kwargs: Any) -> list[CheckMessage]:
    """Check that no message waits for longer than the broker lets it."""
    horizon, limit = settings.WEBHOOKS_CELERY_HORIZON, _visibility_timeout()
    if not is_number(horizon) or limit is None or horizon < limit:
        return []
    return [
        Warning(
            f"WEBHOOKS_CELERY_HORIZON is not below the broker's visibility_timeout of {limit:g} "
            "seconds: the broker delivers a waiting retry's message again and again.",
            hint="Lower WEBHOOKS_CELERY_HORIZON, or raise the visibility_timeout in "
            "CELERY_BROKER_TRANSPORT_OPTIONS.",
            id="webhooks.W003",
        )
    ]


def both(name: str) -> list[Any]:
    """Return a setting of Celery as Django's settings and as the current Celery app have it."""
    values = (
        getattr(django_settings, f"CELERY_{name.upper()}", None),
        getattr(tasks.deliver.app.conf, name, None),
    )
    return [value for value in values if value]


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

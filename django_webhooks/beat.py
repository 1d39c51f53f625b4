"""Celery settings to merge into the project's: schedule, queues and routes.

Plain values, so that a settings module can import them::

    CELERY_BEAT_SCHEDULE = {**django_webhooks.beat.SCHEDULE}
    CELERY_TASK_ROUTES = {**django_webhooks.beat.ROUTES}

Where ``django_webhooks.auditing`` is installed, ``auditing.beat.SCHEDULE`` is to be merged, too.
"""

from __future__ import annotations

from typing import Any

__all__ = ["PERIODIC_QUEUE", "QUEUE", "ROUTES", "SCHEDULE"]

#: Queue of the tasks that take as long as there is something to send, or to handle.
QUEUE = "webhooks"
#: Queue of the short tasks that are asked for every few seconds, which never wait behind the others
#: where a worker process is there for them alone.
PERIODIC_QUEUE = "webhooks-periodic"

#: ``task_routes`` that send the tasks of this app to :data:`PERIODIC_QUEUE` and :data:`QUEUE`.
#: Audits and ``prune`` may last for minutes and nobody waits for them: they go with deliveries.
ROUTES: dict[str, dict[str, Any]] = {
    "django_webhooks.tasks.check_health": {"queue": PERIODIC_QUEUE},
    "django_webhooks.tasks.notify": {"queue": PERIODIC_QUEUE},
    "django_webhooks.tasks.sweep": {"queue": PERIODIC_QUEUE},
    "django_webhooks.tasks.roll_up": {"queue": PERIODIC_QUEUE},
    # The tasks of the optional apps as well.
    "django_webhooks.*": {"queue": QUEUE},
}

#: ``beat_schedule``: seconds between two runs of each task.
SCHEDULE: dict[str, dict[str, Any]] = {
    "django_webhooks.sweep": {"task": "django_webhooks.tasks.sweep", "schedule": 10.0},
    "django_webhooks.check_health": {
        "task": "django_webhooks.tasks.check_health",
        "schedule": 5.0,
    },
    "django_webhooks.roll_up": {"task": "django_webhooks.tasks.roll_up", "schedule": 60.0},
    "django_webhooks.prune": {"task": "django_webhooks.tasks.prune", "schedule": 3600.0},
}

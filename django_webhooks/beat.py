"""What to merge into the project's Celery settings: schedule, queue and routes.

Plain values, so that a settings module can import them::

    CELERY_BEAT_SCHEDULE = {**django_webhooks.beat.SCHEDULE}
    CELERY_TASK_ROUTES = {**django_webhooks.beat.ROUTES}
"""

from __future__ import annotations

from typing import Any

#: Name of the queue that the tasks of this app are meant to have to themselves.
QUEUE = "webhooks"

#: ``task_routes`` that sends the tasks of this app to :data:`QUEUE`.
ROUTES: dict[str, dict[str, Any]] = {"django_webhooks.tasks.*": {"queue": QUEUE}}

#: ``beat_schedule``: seconds between two runs of each task.
SCHEDULE: dict[str, dict[str, Any]] = {
    "django_webhooks.sweep": {"task": "django_webhooks.tasks.sweep", "schedule": 10.0},
    "django_webhooks.check_health": {
        "task": "django_webhooks.tasks.check_health",
        "schedule": 5.0,
    },
    "django_webhooks.tally": {"task": "django_webhooks.tasks.tally", "schedule": 60.0},
    "django_webhooks.audit": {"task": "django_webhooks.tasks.audit", "schedule": 86_400.0},
    "django_webhooks.prune": {"task": "django_webhooks.tasks.prune", "schedule": 3600.0},
}

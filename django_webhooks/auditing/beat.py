"""Celery settings to merge into the project's beside :mod:`django_webhooks.beat`.

The routes of :mod:`django_webhooks.beat` hold for the tasks of this app, too.
"""

from __future__ import annotations

from typing import Any

__all__ = ["SCHEDULE"]

#: ``beat_schedule``: seconds between two runs of each task.
SCHEDULE: dict[str, dict[str, Any]] = {
    "django_webhooks.auditing.audit": {
        "task": "django_webhooks.auditing.tasks.audit",
        "schedule": 86_400.0,
    },
}

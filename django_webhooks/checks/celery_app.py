"""Whether this process knows the project's Celery app, by which it tells workers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from django.core.checks import CheckMessage, Warning

from .. import tasks
from .queues import both
from .system_check import system_check


@system_check("webhooks")
def check_celery_app(**kwargs: Any) -> Iterator[CheckMessage]:
    """Check that messages go to a broker that somebody named.

    A process that never imports the project's Celery app gets one that Celery makes by itself,
    whose broker is a RabbitMQ on localhost. A web process imports what ``manage.py check`` does.
    """
    if tasks.names_a_broker() or any(both("task_always_eager")):
        return
    package = os.environ.get("DJANGO_SETTINGS_MODULE", "").partition(".")[0] or "yourproject"
    if tasks.project_app().main == "default":
        problem = "No Celery app is imported with the settings"
        hint = (
            f"Write 'from .celery import app as celery_app' into {package}/__init__.py, so that "
            "web processes import the app too; see docs/howto/celery.md."
        )
    else:
        problem = f"The Celery app {tasks.project_app().main!r} names no broker"
        hint = (
            "Set CELERY_BROKER_URL, and let the app read it: "
            "app.config_from_object('django.conf:settings', namespace='CELERY')."
        )
    yield Warning(
        f"{problem}: this process tells workers through a RabbitMQ on localhost, which is "
        "Celery's default. What nobody hears of waits for the sweep.",
        hint=hint,
        id="webhooks.W130",
    )

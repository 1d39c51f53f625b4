"""The Celery app of the tests that run in this process; nothing reads its broker."""

from __future__ import annotations

from celery import Celery

app = Celery("tests", set_as_current=True)
app.config_from_object("django.conf:settings", namespace="CELERY")

"""A project that sends webhooks, and has neither the inbox nor audits."""

from __future__ import annotations

from celery import Celery

celery_app = Celery("core_only")
celery_app.config_from_object("django.conf:settings", namespace="CELERY")

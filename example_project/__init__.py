"""A small shop that sends webhooks, and receives its own."""

from __future__ import annotations

from .celery import app as celery_app

__all__ = ["celery_app"]

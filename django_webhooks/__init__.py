"""Webhooks that arrive: signed, retried and recorded, for Django on Celery."""

from __future__ import annotations

__version__ = "0.1.0"

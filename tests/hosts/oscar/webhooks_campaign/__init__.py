"""An app that is put into django-oscar's test project: hooks on all models, one listener to all."""

from __future__ import annotations

from celery import Celery

# Messages stay in this process.
app = Celery("webhooks_campaign", broker="memory://")
app.set_default()

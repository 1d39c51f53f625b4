"""The Celery app of the site."""

from __future__ import annotations

import os

from celery import Celery

from example_project import broker

from . import names, watching

broker.install()
names.install()
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.acceptance.site.settings")
app = Celery("site")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
watching.install()

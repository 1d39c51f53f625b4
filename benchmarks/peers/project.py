"""The Celery app of a project that uses one of the compared apps.

Celery closes the connection to the database before and after each task; with ``PEER_KEEP=1`` it
keeps it, as its own ``CELERY_DB_REUSE_MAX`` asks for.
"""

from __future__ import annotations

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.peers.settings")
app = Celery("peers")
app.config_from_object("django.conf:settings", namespace="CELERY")
if os.environ.get("PEER_KEEP") == "1":
    # Read without the namespace.
    app.conf["CELERY_DB_REUSE_MAX"] = 10**9
app.set_default()
app.autodiscover_tasks()

"""Django settings of a project that uses one of the compared apps, named by ``PEER``."""

from __future__ import annotations

import os
from importlib import import_module
from urllib.parse import urlsplit

_peer = import_module(f"benchmarks.peers.{os.environ['PEER']}").SETUP
_database = urlsplit(os.environ["PEER_DATABASE_URL"])

SECRET_KEY = "only for benchmarks on this machine"
USE_TZ = True
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": _database.path.lstrip("/"),
        "HOST": _database.hostname,
        "PORT": _database.port or "",
        "USER": _database.username or "",
        "PASSWORD": _database.password or "",
        "CONN_MAX_AGE": None,
    }
}
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "benchmarks.peers.shop",
    *_peer.apps,
]
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": os.environ["PEER_BROKER_URL"],
        # Of this run alone.
        "KEY_PREFIX": os.environ["PEER_QUEUE"],
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LOGGING_CONFIG = None
CELERY_BROKER_URL = os.environ["PEER_BROKER_URL"]
CELERY_TASK_DEFAULT_QUEUE = os.environ["PEER_QUEUE"]
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
globals().update(_peer.settings)

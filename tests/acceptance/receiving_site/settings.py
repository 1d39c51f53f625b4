"""Settings of the site; the folder with its database is in the environment."""

from __future__ import annotations

import os
from pathlib import Path

FOLDER = Path(os.environ["RECEIVING_FOLDER"])
SECRET_KEY = "only for tests"
USE_TZ = True
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "tests.acceptance.receiving_site.urls"
INSTALLED_APPS = ["django.contrib.contenttypes", "django_webhooks", "django_webhooks.inbox"]
MIDDLEWARE = ["django.middleware.csrf.CsrfViewMiddleware"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": FOLDER / "site.sqlite3",
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF;",
        },
    }
}
CELERY_BROKER_URL = "memory://"
SILENCED_SYSTEM_CHECKS = ["models.W037"]
WEBHOOKS_RECEIVING_REQUIRE_HTTPS = False
WEBHOOKS_RECEIVING_MAX_BYTES = 20_000

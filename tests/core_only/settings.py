"""Settings of a project with the core alone, as in production but for its database."""

from __future__ import annotations

import os

from django_webhooks import beat

SECRET_KEY = "only for tests"
ALLOWED_HOSTS = ["testserver"]
ROOT_URLCONF = "tests.core_only.urls"
DATABASES = {
    "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["CORE_ONLY_DATABASE"]}
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django_webhooks",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
STATIC_URL = "static/"
CELERY_BROKER_URL = "memory://"
CELERY_BEAT_SCHEDULE = {**beat.SCHEDULE}
CELERY_TASK_ROUTES = {**beat.ROUTES}
WEBHOOKS_ENCRYPTION_KEYS = ["dGVzdHMgdGVzdHMgdGVzdHMgdGVzdHMgdGVzdHMgdGU="]
WEBHOOKS_ALLOW_UNKNOWN_EVENT_TYPES = True
WEBHOOKS_METRICS = True

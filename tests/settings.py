"""Django settings of the tests; TEST_DATABASE names the database: sqlite, postgres or mariadb."""

from __future__ import annotations

import os
from pathlib import Path

from django_webhooks import beat
from django_webhooks.auditing import beat as auditing_beat

from .services import DATABASE_NAME, SERVICES

BASE_DIR = Path(__file__).parent
SECRET_KEY = "only for tests"
# A project may have any: runs of the tests differ in them (see tox.ini).
USE_TZ = os.environ.get("TEST_USE_TZ", "1") != "0"
TIME_ZONE = os.environ.get("TEST_TIME_ZONE", "UTC")
ROOT_URLCONF = "tests.urls"
ALLOWED_HOSTS = ["*"]

_SERVER_DATABASES = {
    "postgres": {
        "ENGINE": "django.db.backends.postgresql",
        "USER": "postgres",
        # No test here survives the server: it need not wait for the disk.
        "OPTIONS": {"options": "-c synchronous_commit=off"},
    },
    "mariadb": {
        "ENGINE": "django.db.backends.mysql",
        "USER": "root",
        "OPTIONS": {"charset": "utf8mb4"},
        "TEST": {"CHARSET": "utf8mb4", "COLLATION": "utf8mb4_unicode_ci"},
    },
}


def _database(name: str) -> dict[str, object]:
    if name == "sqlite":
        return {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": BASE_DIR / "unused.sqlite3",
            "OPTIONS": {
                "transaction_mode": "IMMEDIATE",
                "timeout": 20,
                "init_command": "PRAGMA synchronous = OFF",
            },
            # In a file, so that threads have connections of their own.
            "TEST": {"NAME": BASE_DIR / f"tests-{os.getpid()}.sqlite3"},
        }
    service = SERVICES[name]
    prefix = name.upper()
    base = _SERVER_DATABASES[name]
    return {
        **base,
        "NAME": DATABASE_NAME,
        "USER": os.environ.get(f"{prefix}_USER", base["USER"]),
        "PASSWORD": os.environ.get(f"{prefix}_PASSWORD", ""),
        "HOST": service.host,
        "PORT": service.port,
    }


DATABASES = {
    "default": _database(os.environ.get("TEST_DATABASE", "sqlite")),
    "other": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"},
}

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django_webhooks",
    "django_webhooks.auditing",
    "django_webhooks.inbox",
    "tests.testapp",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django_webhooks.middleware.actor",
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
# Django 6.1 and newer ask for it; the test runner puts a mailbox in its place.
MAILERS: dict[str, dict[str, str]] = {"default": {}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
SILENCED_SYSTEM_CHECKS = ["models.W037"]

WEBHOOKS_ENCRYPTION_KEYS = ["dGVzdHMgdGVzdHMgdGVzdHMgdGVzdHMgdGVzdHMgdGU="]
# Receivers of the tests listen on loopback without TLS.
WEBHOOKS_REQUIRE_HTTPS = False
WEBHOOKS_ALLOWED_NETWORKS = ["127.0.0.0/8", "::1/128"]
CELERY_BROKER_URL = "memory://"
CELERY_BEAT_SCHEDULE = {**beat.SCHEDULE, **auditing_beat.SCHEDULE}
CELERY_TASK_ROUTES = {**beat.ROUTES}

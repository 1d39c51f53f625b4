"""Settings from the environment; the defaults need no server: SQLite and a broker in files."""

from __future__ import annotations

from pathlib import Path

import environ
from kombu import Queue

from django_webhooks import beat

from . import broker

env = environ.Env()
BASE_DIR = Path(__file__).resolve().parent.parent
DATA_DIR = Path(env.str("EXAMPLE_DATA_DIR", str(BASE_DIR / ".example")))
(DATA_DIR / "broker").mkdir(parents=True, exist_ok=True)

SECRET_KEY = env.str("SECRET_KEY", "only for the example")
DEBUG = env.bool("DEBUG", True)
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1"])
ROOT_URLCONF = "example_project.urls"
WSGI_APPLICATION = "example_project.wsgi.application"
USE_TZ = True
TIME_ZONE = env.str("TIME_ZONE", "UTC")
STATIC_URL = "static/"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

DATABASES = {"default": env.db("DATABASE_URL", f"sqlite:///{DATA_DIR / 'shop.sqlite3'}")}
DATABASES["default"]["ATOMIC_REQUESTS"] = True
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    # Writers wait for each other from the start instead of failing half-way.
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;",
    }
DATABASES["default"]["CONN_MAX_AGE"] = 600
DATABASES["default"]["CONN_HEALTH_CHECKS"] = True

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "django_webhooks",
    "example_project.shop",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "example_project.policy.ContentSecurityPolicy",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django_webhooks.middleware.acting",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
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

CELERY_BROKER_URL = env.str("CELERY_BROKER_URL", f"{broker.SCHEME}://")
if CELERY_BROKER_URL.startswith(broker.SCHEME):
    CELERY_BROKER_TRANSPORT_OPTIONS = broker.options(str(DATA_DIR / "broker"))
    # This broker knows neither answers between workers nor their gossip.
    CELERY_WORKER_ENABLE_REMOTE_CONTROL = False
CELERY_TASK_DEFAULT_QUEUE = "default"
CELERY_TASK_QUEUES = [Queue("default"), Queue(beat.QUEUE)]
CELERY_TASK_ROUTES = {**beat.ROUTES}
CELERY_BEAT_SCHEDULE = {**beat.SCHEDULE}
CELERY_BEAT_SCHEDULE["django_webhooks.sweep"] = {
    **beat.SCHEDULE["django_webhooks.sweep"],
    "schedule": env.float("EXAMPLE_SWEEP_SECONDS", 10.0),
}
CELERY_BEAT_SCHEDULE["django_webhooks.check_health"] = {
    **beat.SCHEDULE["django_webhooks.check_health"],
    "schedule": env.float("EXAMPLE_CHECK_SECONDS", 5.0),
}
CELERY_BEAT_SCHEDULE["django_webhooks.tally"] = {
    **beat.SCHEDULE["django_webhooks.tally"],
    "schedule": env.float("EXAMPLE_TALLY_SECONDS", 60.0),
}
CELERY_BEAT_SCHEDULE_FILENAME = str(DATA_DIR / "beat")
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True

# In production: WEBHOOKS_ENCRYPTION_KEYS from the environment, see webhooks_generate_key.
WEBHOOKS_ENCRYPTION_KEYS = env.list("WEBHOOKS_ENCRYPTION_KEYS", default=[])
# The receiver of the example listens on loopback without TLS. Leave this out in production.
WEBHOOKS_REQUIRE_HTTPS = env.bool("WEBHOOKS_REQUIRE_HTTPS", False)
WEBHOOKS_ALLOWED_NETWORKS = env.list("WEBHOOKS_ALLOWED_NETWORKS", default=["127.0.0.0/8"])
WEBHOOKS_ALLOWED_PORTS = env.list("WEBHOOKS_ALLOWED_PORTS", cast=int, default=[]) or None
WEBHOOKS_RETRY_BASE = env.float("WEBHOOKS_RETRY_BASE", 5.0)
WEBHOOKS_RETRY_FACTOR = env.float("WEBHOOKS_RETRY_FACTOR", 6.0)
WEBHOOKS_HEALTH_HOLD = env.float("WEBHOOKS_HEALTH_HOLD", 30.0)
WEBHOOKS_PROBE_INTERVAL_UNHEALTHY = env.float("WEBHOOKS_PROBE_INTERVAL_UNHEALTHY", 10.0)
WEBHOOKS_PROBE_INTERVAL = env.float("WEBHOOKS_PROBE_INTERVAL", 60.0)
EXAMPLE_SIGNING_SECRET = env.str("EXAMPLE_SIGNING_SECRET", "")

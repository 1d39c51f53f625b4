"""Settings from the environment; the defaults need no server: SQLite and a broker in files."""

from __future__ import annotations

from pathlib import Path

import environ
from kombu import Queue

from django_webhooks import beat, environment
from django_webhooks.auditing import beat as auditing_beat

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
    "django_webhooks.auditing",
    "django_webhooks.inbox",
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
    "django_webhooks.middleware.actor",
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
CELERY_TASK_QUEUES = [Queue("default"), Queue(beat.QUEUE), Queue(beat.PERIODIC_QUEUE)]
CELERY_TASK_ROUTES = {**beat.ROUTES}
CELERY_BEAT_SCHEDULE = {**beat.SCHEDULE, **auditing_beat.SCHEDULE}
CELERY_BEAT_SCHEDULE["django_webhooks.sweep"] = {
    **beat.SCHEDULE["django_webhooks.sweep"],
    "schedule": env.float("EXAMPLE_SWEEP_SECONDS", 10.0),
}
CELERY_BEAT_SCHEDULE["django_webhooks.check_health"] = {
    **beat.SCHEDULE["django_webhooks.check_health"],
    "schedule": env.float("EXAMPLE_CHECK_SECONDS", 5.0),
}
CELERY_BEAT_SCHEDULE["django_webhooks.roll_up"] = {
    **beat.SCHEDULE["django_webhooks.roll_up"],
    "schedule": env.float("EXAMPLE_ROLL_UP_SECONDS", 60.0),
}
CELERY_BEAT_SCHEDULE_FILENAME = str(DATA_DIR / "beat")
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True

# The receiver of the example listens on loopback without TLS. Leave this out in production.
WEBHOOKS_REQUIRE_HTTPS = False
WEBHOOKS_ALLOWED_NETWORKS = ["127.0.0.0/8"]
# Any setting of django_webhooks, each read as its own type. In production WEBHOOKS_ENCRYPTION_KEYS
# is one of them, see webhooks_generate_key.
globals().update(environment.read(env))
EXAMPLE_SIGNING_SECRET = env.str("EXAMPLE_SIGNING_SECRET", "")

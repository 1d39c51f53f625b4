"""Settings from the environment that the tests make."""

from __future__ import annotations

import json
import os

import environ
from kombu import Queue

from django_webhooks import beat

env = environ.Env()
SECRET_KEY = "only for tests"
USE_TZ = True
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "tests.acceptance.site.urls"
INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django_webhooks",
    "django_webhooks.auditing",
    "django_webhooks.inbox",
    "tests.acceptance.site",
]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {"default": env.db("ACCEPTANCE_DATABASE")}
DATABASES["default"]["ATOMIC_REQUESTS"] = True
DATABASES["default"]["CONN_MAX_AGE"] = 60
DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;",
    }

CELERY_BROKER_URL = env.str("ACCEPTANCE_BROKER")
CELERY_BROKER_TRANSPORT_OPTIONS = json.loads(env.str("ACCEPTANCE_BROKER_OPTIONS", "{}"))
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_WORKER_ENABLE_REMOTE_CONTROL = False
# Each test has queues of its own, so that none gets what another left.
QUEUE = env.str("ACCEPTANCE_QUEUE")
CELERY_TASK_DEFAULT_QUEUE = QUEUE
CELERY_TASK_QUEUES = [Queue(QUEUE), Queue(f"{QUEUE}-periodic")]
CELERY_TASK_ROUTES = {
    task: {"queue": route["queue"].replace("webhooks", QUEUE)}
    for task, route in beat.ROUTES.items()
}
CELERY_BEAT_SCHEDULE = {
    "sweep": {**beat.SCHEDULE["django_webhooks.sweep"], "schedule": 1.0},
    "check_health": {**beat.SCHEDULE["django_webhooks.check_health"], "schedule": 1.0},
}
CELERY_BEAT_SCHEDULE_FILENAME = os.path.join(env.str("ACCEPTANCE_FOLDER"), f"beat-{os.getpid()}")

WEBHOOKS_REQUIRE_HTTPS = False
WEBHOOKS_ALLOWED_NETWORKS = ["127.0.0.0/8", "::1/128"]
WEBHOOKS_ALLOW_UNKNOWN_EVENT_TYPES = True
WEBHOOKS_RETRY_BASE_SECONDS = 0.3
WEBHOOKS_RETRY_FACTOR = 1.5
WEBHOOKS_RETRY_ATTEMPTS = 40
# Much longer than a busy machine stands still: what is late is not sent again.
WEBHOOKS_TIMEOUT_SECONDS = 10.0
WEBHOOKS_LEASE_SECONDS = 15.0
WEBHOOKS_RECEIVING_REQUIRE_HTTPS = False
#: What the handler of webhooks waits for after its commit.
SECONDS_UNTIL_ANSWER = 0.0
_given = json.loads(env.str("ACCEPTANCE_SETTINGS", "{}"))
globals().update({name: value for name, value in _given.items() if "." not in name})
#: Constants of the package that a test changes in all processes, by path ("package.module.NAME").
TEST_CONSTANTS = {name: value for name, value in _given.items() if "." in name}
#: A recipe of the documentation, in Python.
exec(env.str("ACCEPTANCE_RECIPE", ""))

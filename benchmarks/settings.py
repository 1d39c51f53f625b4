"""Django settings of the benchmarks: PostgreSQL and Redis on this machine, named by environment."""

from __future__ import annotations

import environ

from django_webhooks import beat

env = environ.Env()

SECRET_KEY = "only for benchmarks on this machine"
USE_TZ = True
DATABASES = {
    "default": env.db(
        "BENCHMARK_DATABASE_URL", "postgres://postgres@127.0.0.1:5432/django_webhooks_benchmark"
    )
}
DATABASES["default"]["CONN_MAX_AGE"] = None
if env.bool("BENCHMARK_PREPARED", False):
    # See "Prepared statements" in docs/howto/scale.md.
    DATABASES["default"]["OPTIONS"] = {"server_side_binding": True, "prepare_threshold": 5}
INSTALLED_APPS = ["django.contrib.contenttypes", "django_webhooks", "benchmarks"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LOGGING_CONFIG = None
WEBHOOKS_REQUIRE_HTTPS = False
WEBHOOKS_ALLOWED_NETWORKS = ["127.0.0.0/8", "::1/128"]
WEBHOOKS_ALLOW_UNKNOWN_EVENT_TYPES = True
WEBHOOKS_MAX_IN_FLIGHT = env.int("WEBHOOKS_MAX_IN_FLIGHT", 64)
CELERY_BROKER_URL = env.str("BENCHMARK_BROKER_URL", "redis://127.0.0.1:6379/9")
CELERY_TASK_ROUTES = beat.ROUTES
CELERY_BEAT_SCHEDULE = beat.SCHEDULE
CELERY_WORKER_HIJACK_ROOT_LOGGER = False

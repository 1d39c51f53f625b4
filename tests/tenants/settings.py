"""Settings; TENANTS_WEBHOOKS says whose app django_webhooks is: shared, tenants or both."""

from __future__ import annotations

import os

import environ

from django_webhooks import beat
from django_webhooks.auditing import beat as auditing_beat

SECRET_KEY = "only for tests"
USE_TZ = True
DATABASES = {"default": environ.Env().db("TENANTS_DATABASE")}
DATABASES["default"]["ENGINE"] = "django_tenants.postgresql_backend"
DATABASE_ROUTERS = ["django_tenants.routers.TenantSyncRouter"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
TENANT_MODEL, TENANT_DOMAIN_MODEL = "tenants.Tenant", "tenants.Domain"
_WHOSE = os.environ["TENANTS_WEBHOOKS"]
_OURS = ["django_webhooks", "django_webhooks.auditing", "django_webhooks.inbox"]
SHARED_APPS = ["django_tenants", "tests.tenants", "django.contrib.contenttypes"]
TENANT_APPS = ["django.contrib.contenttypes"]
SHARED_APPS += _OURS if _WHOSE != "tenants" else []
TENANT_APPS += _OURS if _WHOSE != "shared" else []
INSTALLED_APPS = [*SHARED_APPS, *(one for one in TENANT_APPS if one not in SHARED_APPS)]
CELERY_BROKER_URL = "memory://"
CELERY_BEAT_SCHEDULE = {**beat.SCHEDULE, **auditing_beat.SCHEDULE}
CELERY_TASK_ROUTES = {**beat.ROUTES}
WEBHOOKS_ENCRYPTION_KEYS = ["dGVzdHMgdGVzdHMgdGVzdHMgdGVzdHMgdGVzdHMgdGU="]
WEBHOOKS_REQUIRE_HTTPS = False
WEBHOOKS_ALLOWED_NETWORKS = ["127.0.0.0/8"]
WEBHOOKS_ALLOW_UNKNOWN_EVENT_TYPES = True

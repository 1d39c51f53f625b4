"""The settings of django-oscar's tests, with webhooks."""

from __future__ import annotations

from tests.settings import *  # noqa: F403  # those of django-oscar, in whose folder this is run
from tests.settings import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "django_webhooks", "webhooks_campaign"]
WEBHOOKS_ENCRYPTION_KEYS = ["dGVzdHMgdGVzdHMgdGVzdHMgdGVzdHMgdGVzdHMgdGU="]

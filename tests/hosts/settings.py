"""A project that has what real projects have: fields and models of packages from all over."""

from __future__ import annotations

import os

from tests.settings import *  # noqa: F403
from tests.settings import DATABASES, INSTALLED_APPS

DATABASES = {"default": DATABASES["default"]}
INSTALLED_APPS = [
    # It wants to come before the admin.
    "modeltranslation",
    *(one for one in INSTALLED_APPS if one != "tests.testapp"),
    "djmoney",
    "django_countries",
    "phonenumber_field",
    "polymorphic",
    "reversion",
    "safedelete",
    "simple_history",
    "taggit",
    "timezone_field",
    "treebeard",
    "tests.hosts.fields",
    "tests.hosts.packages",
]
if os.environ.get("TEST_DATABASE") == "postgres":
    INSTALLED_APPS += ["django.contrib.postgres", "tests.hosts.on_postgres"]


class _MadeAtOnce:
    """Says of every app but ours that it has no migrations: tables are made as models say."""

    def __contains__(self, label: str) -> bool:
        return not label.startswith("django_webhooks")

    def __getitem__(self, label: str) -> None:
        return None

    def get(self, label: str, default: None = None) -> None:
        return None


MIGRATION_MODULES = _MadeAtOnce()
ROOT_URLCONF = "tests.urls"
LANGUAGES = [("en", "English"), ("de", "German")]
MODELTRANSLATION_DEFAULT_LANGUAGE = "en"
PHONENUMBER_DEFAULT_REGION = "DE"
SAFE_DELETE_FIELD_NAME = "deleted"
# Packages have models with keys of several kinds.
SILENCED_SYSTEM_CHECKS = ["models.W037", "models.W042"]

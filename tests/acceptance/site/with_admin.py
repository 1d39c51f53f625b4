"""The URLs of a site that has Django's admin as well, and the settings that it takes."""

from __future__ import annotations

from typing import Any

from django.urls import path

_CONTRIB = ["admin", "auth", "contenttypes", "messages", "sessions"]
#: For ``Harness.settings``; migrate after it.
SETTINGS: dict[str, Any] = {
    "ROOT_URLCONF": "tests.acceptance.site.with_admin",
    "INSTALLED_APPS": [
        *(f"django.contrib.{name}" for name in _CONTRIB),
        "django_webhooks",
        "django_webhooks.auditing",
        "django_webhooks.inbox",
        "tests.acceptance.site",
    ],
    "MIDDLEWARE": [
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django_webhooks.middleware.actor",
        "django.contrib.messages.middleware.MessageMiddleware",
    ],
    "TEMPLATES": [
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
    ],
    # What fails is found in the log of the web process.
    "LOGGING": {
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {"stderr": {"class": "logging.StreamHandler"}},
        "loggers": {"django.request": {"handlers": ["stderr"], "level": "ERROR"}},
    },
    "STATIC_URL": "static/",
    "PASSWORD_HASHERS": ["django.contrib.auth.hashers.MD5PasswordHasher"],
}


def __getattr__(name: str) -> Any:
    # The tests read the settings above in a process that has no site.
    if name != "urlpatterns":
        raise AttributeError(name)
    from django.contrib import admin

    from .urls import urlpatterns

    return [path("admin/", admin.site.urls), *urlpatterns]

"""The URLs of the site: what tells of things, and what is told."""

from __future__ import annotations

from django.urls import include, path

from . import hooks, web

urlpatterns = [
    path("things/", web.things),
    path("webhooks/", include("django_webhooks.urls")),
    path("hooks/", hooks.now),
    # With what the harness plants in the URLs of endpoints.
    path("hooks//planted-in-the-path", hooks.now),
    path("hooks-later/", hooks.later),
]

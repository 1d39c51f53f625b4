"""The admin, metrics, and a view that receives webhooks; another one would need an inbox."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpResponse
from django.urls import include, path

from django_webhooks.receiving import Token, webhook

SECRET = "a-shared-token"


@webhook(scheme=Token(), secrets=SECRET, require_https=False, once=False)
def each(request: Any, message: Any) -> HttpResponse:
    """Answer with what came."""
    return HttpResponse(message.payload["type"])


@webhook(scheme=Token(), secrets=SECRET, require_https=False, name="once")
def once(request: Any, message: Any) -> None:
    """Do nothing."""


urlpatterns = [
    path("admin/", admin.site.urls),
    path("webhooks/", include("django_webhooks.urls")),
    path("each/", each),
]

"""URLs to include where receivers are to find public keys, and Prometheus the metrics."""

from __future__ import annotations

from django.urls import path

from . import views

__all__ = ["urlpatterns"]

app_name = "django_webhooks"
urlpatterns = [
    path("metrics", views.metrics, name="metrics"),
    path("<uuid:subscription>/keys.json", views.public_keys, name="public-keys"),
]

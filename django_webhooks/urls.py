"""URLs to include where receivers are to find public keys."""

from __future__ import annotations

from django.urls import path

from . import views

app_name = "django_webhooks"
urlpatterns = [
    path("<uuid:subscription>/keys.json", views.public_keys, name="public-keys"),
]

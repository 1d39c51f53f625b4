"""Hooks on every model of the project, with all that they can send."""

from __future__ import annotations

from django.apps import apps

from django_webhooks.hooks import ModelWebhooks, register

for model in apps.get_models():
    if model._meta.app_label == "django_webhooks" or model._meta.proxy:
        continue
    label = model._meta.label_lower
    attributes = {
        "prefix": label,
        "exclude": [],
        "m2m": [
            field.name
            for field in model._meta.local_many_to_many
            if field.remote_field.through is not None
        ],
    }
    register(model)(type(f"{model.__name__}Webhooks", (ModelWebhooks,), attributes))

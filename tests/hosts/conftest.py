"""Tests of this folder have settings of their own: run them with --ds=tests.hosts.settings."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jsonschema
import pytest

IS_MEANT = os.environ.get("DJANGO_SETTINGS_MODULE") == "tests.hosts.settings"
collect_ignore_glob = [] if IS_MEANT else ["*"]


@contextmanager
def hooked(*models: Any, **attributes: Any) -> Iterator[None]:
    """Tell of the models by a hook with these attributes, by default of all their columns."""
    from django_webhooks.hooks import ModelWebhooks, register, unregister

    if not {"fields", "payload", "serializer"} & attributes.keys():
        attributes.setdefault("exclude", [])
    register(*models)(type("Hook", (ModelWebhooks,), attributes))
    try:
        yield
    finally:
        unregister(*models)


def told() -> list[tuple[str, Any]]:
    """Return the type and the data of each recorded event; each is as its schema says."""
    from django_webhooks import catalog
    from django_webhooks.models import Event

    events = [(event.type, event.data) for event in Event.objects.order_by("created_at", "pk")]
    for event_type, data in events:
        schema = catalog.get(event_type).schema
        if schema is not None:
            jsonschema.validate(data, schema, format_checker=jsonschema.FormatChecker())
    return events


@pytest.fixture
def listener(db: None) -> Any:
    """Listen to everything."""
    from django_webhooks.models import Subscription

    subscription = Subscription(name="Everything", event_types=["*"])
    subscription.save()
    return subscription

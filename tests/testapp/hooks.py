"""Register hooks for the length of a test, and read what they told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import models

from django_webhooks.hooks import ModelWebhooks, muted, register, unregister
from django_webhooks.models import Event, Subscription

from .models import Order


@contextmanager
def registered(*targets: type[models.Model], **attributes: Any) -> Iterator[None]:
    """Tell of the models by a hook with these attributes; also a decorator."""
    if not {"exclude", "payload"} & attributes.keys():
        attributes.setdefault("fields", ["id"])
    register(*targets)(type("Hook", (ModelWebhooks,), attributes))
    try:
        yield
    finally:
        unregister(*targets)


def listen(*patterns: str, owner: models.Model | None = None) -> Subscription:
    """Create a subscription that listens to the patterns, by default to everything."""
    subscription = Subscription(name="Listener", event_types=list(patterns or ["*"]))
    subscription.owner = owner
    subscription.save()
    return subscription


def saved(model: type[models.Model] = Order, **fields: Any) -> Any:
    """Create an object that nothing is told of."""
    with muted():
        return model._default_manager.create(**fields)


def told() -> list[tuple[str, Any]]:
    """Return the type and the data of each event that is recorded, the oldest first."""
    return [(event.type, event.data) for event in Event.objects.order_by("created_at", "pk")]


def told_changes() -> list[Any]:
    """Return what each recorded update says has changed."""
    return [data.get("changed") for _, data in told()]

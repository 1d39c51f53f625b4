"""Rows with sensible defaults."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from django_webhooks.models import Delivery, Endpoint, Event, Subscription
from django_webhooks.sending import outbox
from django_webhooks.sending.fan_out import Draft

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self, now: datetime | None = None) -> None:
        # The database writes its own moment into new rows: begin a little after it.
        self.now = now or timezone.now() + timedelta(seconds=30)

    def __call__(self) -> datetime:
        return self.now

    def move(self, **by: float) -> None:
        """Move on."""
        self.now += timedelta(**by)


def subscription(
    *,
    event_types: Sequence[str] = ("order.*",),
    url: str | None = "http://127.0.0.1:9/hook",
    **fields: Any,
) -> Subscription:
    """Create a subscription with one endpoint, or none where the URL is None."""
    fields.setdefault("name", "CRM")
    fields.setdefault("signing_secret", SECRET)
    made = Subscription(event_types=list(event_types), **fields)
    made.save()
    if url is not None:
        Endpoint.objects.create(subscription=made, url=url)
    return made


def record(event_type: str = "order.paid", data: Any = None, **fields: Any) -> list[Delivery]:
    """Record an event for whoever listens, and return its deliveries."""
    draft = Draft(event_type=event_type, data=data or {"id": 1}, **fields)
    [recorded] = outbox.record([draft], using=outbox.database())
    return list(recorded.deliveries)


def delivery(url: str | None = "http://127.0.0.1:9/hook", **fields: Any) -> Delivery:
    """Create a delivery to a subscription of its own."""
    made = subscription(url=url, **fields)
    return next(one for one in record() if one.subscription_id == made.pk)


def event(**fields: Any) -> Event:
    """Create an event that nobody listened to."""
    fields.setdefault("type", "order.paid")
    fields.setdefault("body", b'{"type":"order.paid","timestamp":"","data":{"id":1}}')
    return Event.objects.create(**fields)

"""Rows with sensible defaults."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django_webhooks import times
from django_webhooks.fields import uuid7_at, uuid7_beside
from django_webhooks.models import Delivery, Endpoint, Event, Subscription
from django_webhooks.sending import database, recording
from django_webhooks.sending.fan_out import fan_out as events
from django_webhooks.sending.recording import Draft

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self, now: datetime | None = None) -> None:
        # The database writes its own moment into new rows: begin a little after it.
        self.now = now or times.now() + timedelta(seconds=30)

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
    """Record an event for whoever listens, fan it out, and return its deliveries."""
    event = emit(event_type, data, **fields)
    fan_out()
    found = Delivery.objects.filter(event=event, replay=0) if event else []
    return sorted(found, key=lambda one: one.subscription_id)


def emit(event_type: str = "order.paid", data: Any = None, **fields: Any) -> Event | None:
    """Record an event, in the transaction of the caller, and leave its deliveries to a worker."""
    draft = Draft(event_type=event_type, data=data or {"id": 1}, **fields)
    return recording.record([draft], using=database.alias())[0]


def fan_out() -> None:
    """Make the deliveries of all events that wait, as a worker does first."""
    events.make_all(using=database.alias())


def delivery(url: str | None = "http://127.0.0.1:9/hook", **fields: Any) -> Delivery:
    """Create a delivery to a subscription of its own."""
    made = subscription(url=url, **fields)
    return next(one for one in record() if one.subscription_id == made.pk)


def over(
    subscription: Subscription, *, recorded: datetime, finished: datetime, status: str = "given_up"
) -> Delivery:
    """Create a delivery that was recorded at one moment, and over at another."""
    return Delivery.objects.create(
        pk=uuid7_beside(uuid7_at(recorded)),
        event=event(created_at=recorded, fan_out=None),
        subscription=subscription,
        status=status,
        created_at=recorded,
        finished_at=finished,
    )


def event(**fields: Any) -> Event:
    """Create an event that nobody listened to."""
    fields.setdefault("type", "order.paid")
    fields.setdefault("body", b'{"type":"order.paid","timestamp":"","data":{"id":1}}')
    return Event.objects.create(**fields)

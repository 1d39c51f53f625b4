"""Operational events: ``webhooks.…``, by which other subscriptions of an owner hear of outages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from ... import catalog, times
from ...models import Endpoint, Subscription
from ...models.notification import Notification
from ..recording import Draft
from . import fan_out

Kind = Notification.Kind

#: What each kind of notification is told by.
TYPES = {
    kind: catalog.declare(f"webhooks.{kind.value}", description=description)
    for kind, description in {
        Kind.GIVEN_UP: "Deliveries of a subscription are not tried again; they can be replayed.",
        Kind.UNHEALTHY: "An endpoint failed and is not called any more.",
        Kind.RECOVERED: "An endpoint that failed takes deliveries again.",
        Kind.ENDPOINT_DISABLED: "An endpoint is disabled: its receiver said that it is gone, or "
        "somebody disabled it.",
        Kind.SWITCHED: "The active endpoint of a subscription is another one, or none.",
        Kind.FAILING: "All endpoints of a subscription have failed for long; it will be disabled.",
        Kind.DISABLED: "A subscription is disabled: all its endpoints failed for too long, or its "
        "owner was deleted.",
        Kind.UNREADABLE: "The URLs or keys of a subscription do not open; its deliveries wait.",
        Kind.READABLE: "The URLs and keys of a subscription open again.",
        Kind.SITE_DOWN: "Workers or beat do not run or keep up, or keys or deliveries are missing.",
        Kind.SITE_UP: "What was not well with workers, beat, keys or events is well again.",
        Kind.AUDIT: "An audit has news.",
    }.items()
}
DISABLED = TYPES[Kind.DISABLED]


def note(
    kind: Notification.Kind, subscription: Subscription, data: dict[str, Any], *, using: str
) -> int:
    """Emit the event of a kind now, and let people be mailed of it; return as :func:`emit` does."""
    Notification.objects.using(using).create(
        kind=kind, subscription=subscription, detail=data, notified_at=times.now()
    )
    return emit(TYPES[kind], subscription, data, using=using)


def emit(
    kind: catalog.EventType,
    subscription: Subscription | None,
    data: dict[str, Any],
    *,
    about: Sequence[str] = (),
    using: str,
) -> int:
    """Record an operational event for the owner's other subscriptions; return 1, or 0 for nobody.

    None that has an endpoint with one of the URLs ``about`` is told: who fails is not told of it.
    Without a subscription, those are told that have no owner.
    """
    if subscription is None:
        draft = Draft(event_type=kind.name, data=data)
        return int(fan_out.record_at_once(draft, using=using) is not None)
    named = {"subscription": str(subscription.pk), "name": subscription.name, **data}
    draft = Draft(event_type=kind.name, data=named, owner=subscription.owner_key)
    not_to = [subscription.pk, *_behind(about, using=using)]
    return int(fan_out.record_at_once(draft, not_to=not_to, using=using) is not None)


def _behind(urls: Sequence[str], *, using: str) -> list[UUID]:
    """Return the subscriptions that one of these URLs belongs to."""
    rows = Endpoint.objects.using(using).with_url(*(url for url in urls if url))
    return list(rows.values_list("subscription_id", flat=True))

"""Operational events: ``webhooks.…``, by which other subscriptions of an owner hear of outages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from .. import catalog
from ..models import Endpoint, Subscription
from . import outbox
from .fan_out import Draft

UNHEALTHY = catalog.declare(
    "webhooks.endpoint.unhealthy", description="An endpoint failed and is not called any more."
)
RECOVERED = catalog.declare(
    "webhooks.endpoint.recovered", description="An endpoint that failed takes deliveries again."
)
SWITCHED = catalog.declare(
    "webhooks.subscription.switched",
    description="The active endpoint of a subscription is another one.",
)
FAILING = catalog.declare(
    "webhooks.subscription.failing",
    description="All endpoints of a subscription have failed for long; it will be disabled.",
)
DISABLED = catalog.declare(
    "webhooks.subscription.disabled",
    description="A subscription is disabled, because all its endpoints failed for too long.",
)


def emit(
    kind: catalog.EventType,
    subscription: Subscription,
    data: dict[str, Any],
    *,
    about: Sequence[str] = (),
    using: str,
) -> int:
    """Record an operational event for the owner's other subscriptions; return 1, or 0 for nobody.

    None that has an endpoint with one of the URLs ``about`` is told: who fails is not told of it.
    """
    named = {"subscription": str(subscription.pk), "name": subscription.name, **data}
    draft = Draft(
        event_type=kind.name,
        data=named,
        owner=subscription.owner_key,
        not_to=[subscription.pk, *_behind(about, using=using)],
    )
    return sum(one.event is not None for one in outbox.record([draft], using=using))


def _behind(urls: Sequence[str], *, using: str) -> list[UUID]:
    """Return the subscriptions that one of these URLs belongs to."""
    rows = Endpoint.objects.using(using).with_url(*(url for url in urls if url))
    return list(rows.values_list("subscription_id", flat=True))

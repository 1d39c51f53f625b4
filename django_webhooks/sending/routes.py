"""Routes: where the deliveries of a subscription go at this moment."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db.models import Q

from ..models import Delivery, Endpoint, Health, Subscription
from ..models.switch import choose
from ..policies.failover import Mode
from . import loading


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """The endpoint to use, if any, and the one that may be tried with a single delivery.

    ``why`` says why the traffic goes to a backup. ``doors`` is how many endpoints one round of
    attempts has: more than one where each attempt that fails goes to the next. A route that
    ``is_own`` is that of one delivery, and says nothing of the others of its subscription.
    """

    endpoint: Endpoint | None = None
    trial: Endpoint | None = None
    why: str = ""
    doors: int = 1
    is_own: bool = False


def of(subscription: Subscription, delivery: Delivery) -> Route:
    """Return where the delivery goes now; the subscription was loaded by the module ``loading``."""
    doors = [one.health for one in subscription.endpoints.all() if hasattr(one, "health")]
    usable = sorted(
        (door for door in doors if door.endpoint.is_usable), key=lambda one: one.endpoint.position
    )
    chosen = next((one for one in usable if one.endpoint_id == delivery.endpoint_id), None)
    if chosen is not None:
        return Route(endpoint=chosen.endpoint, why="chosen", is_own=True)
    if subscription.failover == Mode.EACH and not any(one.endpoint.is_pinned for one in usable):
        if not usable:
            return Route(is_own=True)
        door = usable[delivery.attempts_made % len(usable)]
        return Route(endpoint=door.endpoint, why=delivery.reason, doors=len(usable), is_own=True)
    # The flag rather than the choice: the row says what was decided and recorded.
    active = next((door for door in usable if door.is_active), None)
    on_trial = choose(subscription, usable).trial
    trial = next((door for door in usable if on_trial and on_trial.key == door.endpoint_id), None)
    return Route(
        endpoint=active.endpoint if active else None,
        trial=trial.endpoint if trial else None,
        why=_why(active, doors),
    )


def refresh(subscriptions: Collection[UUID], *, using: str) -> dict[UUID, Subscription]:
    """Return these subscriptions with their endpoints as they are now."""
    return loading.subscriptions(subscriptions, using=using)


def is_readable(subscription: Subscription, endpoint: Endpoint, *, now: datetime) -> bool:
    """Say whether all that a request needs opens with the encryption keys there are."""
    return endpoint.is_readable and all(key.is_readable for key in subscription.keys_at(now))


def claim_trial(endpoint: Endpoint, *, now: datetime, until: datetime, using: str) -> bool:
    """Take the right to try an endpoint with one delivery until a moment; say whether it was."""
    rows = Health.objects.using(using).filter(pk=endpoint.pk, state=Health.State.TRIAL)
    # What ends later than a lease can was written before a clock was set back.
    free = Q(trial_until__isnull=True) | Q(trial_until__lte=now) | Q(trial_until__gt=until)
    return rows.filter(free).update(trial_until=until) == 1


def end_trial(endpoint: Endpoint, *, using: str) -> None:
    """Let another delivery try the endpoint; this one did not, or what it brought tells nothing."""
    Health.objects.using(using).filter(pk=endpoint.pk).update(trial_until=None)


def _why(active: Health | None, doors: list[Health]) -> str:
    if active is None or active.endpoint.role == "primary":
        return ""
    if active.endpoint.is_pinned:
        return "pinned"
    earlier = min(doors, key=lambda one: one.endpoint.position)
    if not earlier.endpoint.is_usable:
        return "disabled"
    return earlier.reason or earlier.state

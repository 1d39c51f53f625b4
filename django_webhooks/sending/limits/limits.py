"""Limits: what of the leased deliveries of a limited subscription may go now.

A lease asks here before it sends. The worker that asks locks the rate limit state of the
subscription, so that all workers ask one after the other, and writes in the same transaction what
may go and what waits:

- Requests in flight are the leases that have not ended; there is no counter that could drift. The
  leases of a worker that was killed end, and count until then. Those of a worker that has not asked
  yet count too, which errs on the safe side: it asks in a moment, sees nothing but what may really
  go, and lets go as many.
- A delivery whose moment is near waits for it (``due_at`` ahead): it falls due by itself, whoever
  dies meanwhile. When it is leased it asks again, so that moments that passed while no worker ran,
  and limits that became lower, let nothing slip through.
- Where more wait than a few seconds' worth, the others are held (``due_at`` NULL), which costs the
  query of the leases nothing, and ``limit_state.released_through`` says so. They are released
  oldest first: by whoever asks here (``admit``), by the recorder when a request has ended
  (``make_room``, in the transaction that ends it), and by the sweep (``nudge``). What is released
  goes before what is newer.

Nothing waits for ever. A held delivery has ``released_through`` set, in the transaction that held
it, and is then found by the sweep, whatever the workers remember. A release that is committed is
due work like any other. Two that want to release wait for each other at the rate limit state; the
recorder locks it before it ends leases, so that who is denied because of a lease is seen by who
ends that. A limit that was changed or lifted is read anew at each of these places; what a worker
that had read the old one holds after that is the sweep's to find. While a subscription is paused,
has no endpoint, cannot be read or starts slowly, nothing is released here: what ends that state
releases, and leaves all but the first to the limits (``release_all``). A slow start's releases ask
here too.

Rows are locked in this order: health, rate limit state, deliveries.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from django.db import transaction
from django.db.models import Min

from ...models import Delivery, Subscription
from ...models.rate_limit_state import RateLimitState, note_backlog
from ...policies.rate import Limits
from ..attempts import Job
from ..claims import Lease, routing
from .limiter import LONGEST_AHEAD, SubscriptionLimiter, in_flight


@dataclass(kw_only=True)
class Admitted:
    """Jobs that may go, jobs that may not, and the subscriptions whose next moment to wait for."""

    go: list[Job] = field(default_factory=list)
    denied: list[Job] = field(default_factory=list)
    watched: set[UUID] = field(default_factory=set)


def admit(
    jobs: Sequence[Job],
    lease: Lease,
    *,
    places: Callable[[UUID, Limits], int],
    run: UUID,
    now: datetime,
    using: str,
) -> Admitted:
    """Let go what the limits allow, and let the others wait.

    ``places`` says for how many there is room in this process, so that none is let go too early.
    """
    subscriptions = {job.subscription.pk: job.subscription for job in jobs}
    limited: dict[UUID, list[Job]] = {key: [] for key, one in subscriptions.items() if one.limits}
    if not limited:
        return Admitted(go=list(jobs))
    admitted = Admitted()
    for job in jobs:
        limited.get(job.subscription.pk, admitted.go).append(job)
    with transaction.atomic(using=using):
        limit_states = RateLimitState.objects.using(using).lock(sorted(limited))
        bounded = [key for key in limited if subscriptions[key].limits.in_flight is not None]
        busy = in_flight(bounded, except_for=lease, now=now, using=using) if bounded else {}
        for key, own in limited.items():
            if key not in limit_states:  # Its subscription is being deleted.
                admitted.denied += own
                continue
            limiter = _limiter(limit_states[key], subscriptions[key], busy, now=now, using=using)
            go, denied = limiter.acquire(own, lease=lease, places=places(key, limiter.limits))
            admitted.go += go
            admitted.denied += denied
            if limiter.become_pacer(run):
                admitted.watched.add(key)
            limiter.save()
    return admitted


def lock(jobs: Iterable[Job], *, using: str) -> dict[UUID, RateLimitState]:
    """Lock the rate limit states of limited subscriptions before their deliveries are, and return
    them."""
    subscriptions = {job.subscription.pk: job.subscription for job in jobs}
    keys = [key for key, one in subscriptions.items() if one.limits]
    return RateLimitState.objects.using(using).lock(sorted(keys)) if keys else {}


def make_room(
    limit_states: Mapping[UUID, RateLimitState], jobs: Iterable[Job], *, now: datetime, using: str
) -> int:
    """Release what there is room for, now that requests have ended, and return how many."""
    subscriptions = {job.subscription.pk: job.subscription for job in jobs} if limit_states else {}
    waiting = [
        key
        for key, limit_state in limit_states.items()
        if limit_state.released_through is not None
        and subscriptions[key].limits.in_flight is not None
    ]
    if not waiting:
        return 0
    busy = in_flight(waiting, now=now, using=using)
    released = 0
    for key in waiting:
        limiter = _limiter(limit_states[key], subscriptions[key], busy, now=now, using=using)
        released += limiter.release()
        limiter.save()
    return released


def nudge(*, now: datetime, using: str) -> int:
    """Release what is held because of limits, whatever workers remember; return how many."""
    keys = list(RateLimitState.objects.using(using).backed_up().values_list("pk", flat=True))
    released = 0
    for key, subscription in routing.refresh(keys, using=using).items() if keys else ():
        with transaction.atomic(using=using):
            limit_state = RateLimitState.objects.using(using).lock([key]).get(key)
            if limit_state is None or limit_state.released_through is None:
                continue
            busy = in_flight([key], now=now, using=using)
            limiter = _limiter(limit_state, subscription, busy, now=now, using=using)
            released += limiter.release(ahead=LONGEST_AHEAD)
            limiter.save()
    return released


def note_forgotten(subscription: UUID, *, using: str) -> None:
    """Leave to the limits what is held, where that may be what nobody else remembers."""
    limit_state = RateLimitState.objects.using(using).filter(pk=subscription)
    held = Delivery.objects.using(using).filter(subscription_id=subscription).held()
    if not limit_state.backed_up().exists() and held.exists():
        note_backlog(subscription, using=using)


def next_moment(subscriptions: Collection[UUID], *, using: str) -> datetime | None:
    """Return the earliest moment that a delivery of these subscriptions waits for."""
    waiting = Delivery.objects.using(using).waiting().filter(lease_token__isnull=True)
    found = waiting.filter(subscription_id__in=list(subscriptions), due_at__isnull=False)
    earliest: datetime | None = found.aggregate(at=Min("due_at"))["at"]
    return earliest


def stop_pacing(run: UUID, *, using: str) -> None:
    """Let others wait for the next moment."""
    RateLimitState.objects.using(using).filter(pacer=run).update(pacer=None, pacer_lease_until=None)


def _limiter(
    limit_state: RateLimitState,
    subscription: Subscription,
    busy: Mapping[UUID, int],
    *,
    now: datetime,
    using: str,
) -> SubscriptionLimiter:
    return SubscriptionLimiter(
        limit_state=limit_state,
        subscription=subscription,
        now=now,
        using=using,
        busy=busy.get(subscription.pk, 0),
    )

"""Limiters: what of one limited subscription goes now, what waits until when, and what is held.

The module ``limits`` says how this holds over all workers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import connections
from django.db.models import Case, Count, Value, When

from ...fields import UTCDateTimeField
from ...models import Delivery, Subscription
from ...models.delivery import DeliveryQuerySet
from ...models.rate_limit_state import NOBODY, RateLimitState
from ...policies import rate as policy
from ...policies.rate import Limits
from ..attempts import Job
from ..claims import Lease

#: For how long ahead workers release what is held.
RELEASE_AHEAD = timedelta(seconds=2)
#: For how long ahead the sweep does, and up to when a delivery waits for a moment.
LONGEST_AHEAD = timedelta(seconds=15)
#: For how long what was released because there is room goes before what is newer.
PRECEDENCE = timedelta(seconds=1)
#: For how long nobody else waits for the next moment in the place of a worker that does.
PACER_LEASE = timedelta(seconds=2)
#: How long what finds no place in one process waits until any may take it.
PAUSE = timedelta(seconds=0.1)
#: Deliveries released at once.
RELEASED_AT_ONCE = 500
#: Due deliveries held at once, because those before them may not go.
HELD_AT_ONCE = 5000
#: Moments in a second at the most: what is due within one goes together.
MOMENTS_A_SECOND = 10


@dataclass(kw_only=True)
class SubscriptionLimiter:
    """The deliveries of one subscription, whose rate limit state is locked."""

    limit_state: RateLimitState
    subscription: Subscription
    now: datetime
    using: str
    #: Requests in flight, those that are let go here included.
    busy: int
    limits: Limits = field(init=False)
    _before: tuple[Any, ...] = field(init=False)
    #: Whether something found no place in this process, and waits for a moment because of that.
    _is_crowded_out: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self.limits = self.subscription.limits
        self._before = self._state()

    def acquire(
        self, jobs: Sequence[Job], *, lease: Lease, places: int
    ) -> tuple[list[Job], list[Job]]:
        """Return which of the jobs go, and which do not; these wait for a moment or are held."""
        in_order = sorted(jobs, key=lambda job: (not job.is_trial, job.delivery.pk))
        front = [job for job in in_order if job.is_trial or not self._is_behind(job.delivery)]
        if self.limits.in_flight is not None:
            front = front[: max(0, self.limits.in_flight - self.busy)]
        wanted = min(places, len(front))
        count = self._use(wanted)
        go, waiting = front[:count], front[count:]
        going = {job.delivery.pk for job in go}
        denied = [job for job in in_order if job.delivery.pk not in going]
        self.busy += count
        if denied:
            self._postpone(
                [job.delivery.pk for job in waiting],
                [job.delivery.pk for job in denied if job not in waiting],
                leased=self._rows.filter(lease_token=lease.token),
                is_for_a_place=count == wanted,
            )
        if self.limit_state.released_through is not None and not self._has_reserved_enough():
            self.release()
        return go, denied

    def release(self, *, ahead: timedelta = RELEASE_AHEAD) -> int:
        """Release what is held, oldest first, as far as there is room; return how many."""
        until = self.now + self._at_least_one(ahead)
        if not self.limits:
            self.limit_state.released_through = self.limit_state.reserved_until = None
            # The end of an outage, a pause or a slow start releases all that is left.
            return self._rows.release() if self._flows else 0
        if not self._flows:
            return 0
        count = RELEASED_AT_ONCE
        if self.limits.in_flight is not None:
            soon = max(self.now, self.limit_state.reserved_until or self.now)
            coming = self._rows.waiting().filter(lease_token__isnull=True, due_at__lte=soon)
            count = min(count, self.limits.in_flight - self.busy - coming.count())
        count = len(self._moments(count, until=until)[0])
        if not count:
            return 0
        keys = self._rows.releasable(count + 1)
        is_last = len(keys) <= count
        keys = keys[:count]
        moments = self._reserve(len(keys), until=until)
        _schedule(self._rows.held(), keys, moments)
        self.limit_state.released_through = (
            None if is_last else max([self.limit_state.released_through or NOBODY, *keys])
        )
        return len(keys)

    def become_pacer(self, run: UUID) -> bool:
        """Say whether this run is to wait for the next moment, because nobody else does."""
        limit_state = self.limit_state
        is_reserved = (
            limit_state.reserved_until is not None and limit_state.reserved_until > self.now
        )
        is_paced = self.limits.rate is not None and (
            limit_state.released_through is not None or is_reserved
        )
        if not is_paced and not self._is_crowded_out:
            return False
        has_pacer = (
            limit_state.pacer_lease_until is not None and limit_state.pacer_lease_until > self.now
        )
        if has_pacer and limit_state.pacer != run:
            return False
        limit_state.pacer, limit_state.pacer_lease_until = run, self.now + PACER_LEASE
        return True

    def save(self) -> None:
        """Write what changed."""
        if self._state() != self._before:
            self.limit_state.save(using=self.using)

    def _state(self) -> tuple[Any, ...]:
        limit_state = self.limit_state
        return (
            limit_state.used_until,
            limit_state.reserved_until,
            limit_state.released_through,
            limit_state.pacer,
            limit_state.pacer_lease_until,
        )

    @property
    def _rows(self) -> DeliveryQuerySet:
        return Delivery.objects.using(self.using).filter(subscription=self.subscription)

    @property
    def _flows(self) -> bool:
        endpoints = [one for one in self.subscription.endpoints.all() if hasattr(one, "health")]
        return self.subscription.flows_to(one.health for one in endpoints)

    def _at_least_one(self, ahead: timedelta) -> timedelta:
        """Return how far ahead to look for moments, so that there is one."""
        if self.limits.rate is None or self.limits.rate >= 1:
            return ahead
        return max(LONGEST_AHEAD, timedelta(seconds=1.5 / self.limits.rate))

    def _is_behind(self, delivery: Delivery) -> bool:
        limit_state = self.limit_state
        if (
            limit_state.released_through is None
            or limit_state.reserved_until is None
            or limit_state.reserved_until <= self.now
        ):
            return False
        # Deliveries that a slow start or a trial releases keep their age.
        return delivery.pk > limit_state.released_through and self._flows

    def _has_reserved_enough(self) -> bool:
        reserved = self.limit_state.reserved_until
        if self.limits.rate is None or reserved is None:
            return False
        return reserved > self.now + RELEASE_AHEAD / 2

    def _use(self, wanted: int) -> int:
        """Use the rate for as many as it allows, and return how many these are."""
        if self.limits.rate is None:
            return wanted
        granted = policy.decide(
            self.limit_state.used_until, wanted=wanted, rate=self.limits.rate, now=self.now
        )
        if granted.count:
            self.limit_state.used_until = granted.state
        return granted.count

    def _moments(self, count: int, *, until: datetime) -> tuple[list[datetime], datetime]:
        """Return the moments for as many as may go until then, and up to when these reserve."""
        if self.limits.rate is None:
            return [self.now] * max(0, count), self.now + PRECEDENCE
        limit_state = self.limit_state
        # A lower rate, or a clock that was set back, left what is further ahead.
        used = self.now + timedelta(seconds=max(1, 1 / self.limits.rate))
        reserved = used + self._at_least_one(LONGEST_AHEAD)
        state = max(
            min(limit_state.used_until or self.now, used),
            min(limit_state.reserved_until or self.now, reserved),
        )
        return policy.reserve(
            state,
            count=max(0, count),
            rate=self.limits.rate,
            now=self.now,
            until=until,
        )

    def _reserve(self, count: int, *, until: datetime) -> list[datetime]:
        moments, state = self._moments(count, until=until)
        if moments:
            self.limit_state.reserved_until = state
        return moments

    def _postpone(
        self,
        waiting: Sequence[UUID],
        held: Sequence[UUID],
        *,
        leased: DeliveryQuerySet,
        is_for_a_place: bool,
    ) -> None:
        """Let the first wait for moments that are near, and hold them where none is; the others."""
        limit_state, moments = self.limit_state, []
        if is_for_a_place:
            moments = [self.now + PAUSE] * len(waiting)
            self._is_crowded_out = bool(waiting)
        elif self.limits.rate is not None:
            if limit_state.released_through is not None and self._flows:
                # Newer deliveries are released with the held ones, in their order.
                held = [*held, *(key for key in waiting if key > limit_state.released_through)]
                waiting = [key for key in waiting if key <= limit_state.released_through]
            until = self.now + self._at_least_one(LONGEST_AHEAD)
            moments = self._reserve(len(waiting), until=until)
        held = [*held, *waiting[len(moments) :]]
        waiting = waiting[: len(moments)]
        _schedule(leased, waiting, moments, lease_token=None)
        if held:
            leased.filter(pk__in=held).update(due_at=None, lease_token=None)
            if limit_state.released_through is None:
                limit_state.released_through = max(waiting, default=NOBODY)
            self._hold_what_is_due()

    def _hold_what_is_due(self) -> None:
        """Hold what would be leased next, only to be denied."""
        due = self._rows.waiting().filter(
            due_at__lte=self.now,
            lease_token__isnull=True,
            pk__gt=self.limit_state.released_through or NOBODY,
        )
        found = due.order_by("due_at", "pk")
        if connections[self.using].features.has_select_for_update_skip_locked:
            found = found.select_for_update(skip_locked=True)
        if keys := list(found.values_list("pk", flat=True)[:HELD_AT_ONCE]):
            due.filter(pk__in=keys).update(due_at=None)


def in_flight(
    subscriptions: Iterable[UUID], *, except_for: Lease | None = None, now: datetime, using: str
) -> dict[UUID, int]:
    """Return how many requests of each are in flight, or will be in a moment."""
    leased = Delivery.objects.using(using).waiting().filter(lease_token__isnull=False)
    leased = leased.filter(subscription_id__in=list(subscriptions), due_at__gt=now)
    if except_for is not None:
        leased = leased.exclude(lease_token=except_for.token)
    counts = leased.order_by().values_list("subscription_id").annotate(Count("pk"))
    return {key: count for key, count in counts if key is not None}


def _schedule(
    rows: DeliveryQuerySet, keys: Sequence[UUID], moments: Sequence[datetime], **also: Any
) -> None:
    """Write the moments of these deliveries, in one statement."""
    together: dict[datetime, list[UUID]] = {}
    different = len(set(moments)) - 1
    is_crowded = (
        different > 0 and different > (moments[-1] - moments[0]).total_seconds() * MOMENTS_A_SECOND
    )
    for key, moment in zip(keys, moments, strict=True):
        is_rounded = is_crowded and moment != moments[0]
        together.setdefault(_rounded(moment) if is_rounded else moment, []).append(key)
    if together:
        column = UTCDateTimeField()
        cases = [
            When(pk__in=own, then=Value(moment, output_field=column))
            for moment, own in together.items()
        ]
        due_at = Case(*cases, output_field=column)
        rows.filter(pk__in=list(keys)).update(due_at=due_at, **also)


def _rounded(moment: datetime) -> datetime:
    parts = math.ceil(moment.microsecond * MOMENTS_A_SECOND / 1_000_000)
    return moment.replace(microsecond=0) + timedelta(seconds=parts / MOMENTS_A_SECOND)

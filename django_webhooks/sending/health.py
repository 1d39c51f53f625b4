"""Health: what attempts tell of their endpoints, and what follows, in the attempts' transaction.

Rows are locked in this order: the health of all endpoints of a subscription, its flow where it has
limits, then deliveries. While all is well nothing is locked and nothing is written, except a last
success now and then; and what has an order is locked, so that turns are passed on in peace (see
``sending.turns``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import cast
from uuid import UUID

from django.db import transaction

from .. import signals
from ..fields import DatabaseNow
from ..models import Delivery, Endpoint, Health, Subscription, Switch
from ..models.delivery import DeliveryQuerySet
from ..models.flow import let_flow
from ..policies import health as policy
from ..policies.health import Attempted, Evidence
from . import loading
from .attempt import Result

#: How old a recorded last success may be while all is well.
TOUCH = timedelta(seconds=5)
#: Deliveries that each success releases while an endpoint that recovered starts slowly.
GROWTH = 2
#: Deliveries released slowly before all are.
SLOW_START_ENDS = 256


@dataclass(kw_only=True)
class Weighing:
    """Attempts of some subscriptions, and the locked doors that they tell of."""

    results: Sequence[Result]
    now: datetime
    using: str
    #: Endpoints that still exist.
    endpoints: set[UUID]
    doors: dict[UUID, list[Health]]
    #: As they are now: a worker's own may be older than a change by hand.
    subscriptions: dict[UUID, Subscription]
    others_wait: dict[UUID, bool] = field(default_factory=dict)
    #: Subscriptions whose routes changed, or that have work due that was held.
    changed: set[UUID] = field(default_factory=set)
    #: Endpoints whose receiver said that they are gone, and why.
    disabled: dict[Endpoint, str] = field(default_factory=dict)

    def finish(self) -> None:
        """Write what the attempts tell.

        Called when the deliveries have been moved on, in the same transaction.
        """
        for key, subscription in self.subscriptions.items():
            doors = self.doors[key]
            results = [one for one in self.results if one.job.subscription.pk == key]
            self._fold(results, {door.endpoint_id: door for door in doors})
            switch = Switch.objects.using(self.using).settle(
                subscription, doors, now=self.now, reason=_why(results)
            )
            active = next((door for door in doors if door.is_active), None)
            self._follow(subscription, results, active)
            if switch is not None or any(
                active is None or one.job.endpoint.pk != active.endpoint_id for one in results
            ):
                # Another worker may have switched meanwhile.
                self.changed.add(key)

    def _fold(self, results: Sequence[Result], doors: dict[UUID, Health]) -> None:
        touched: dict[UUID, Health] = {}
        before = {key: door.state for key, door in doors.items()}
        for result in results:
            door = doors.get(result.job.endpoint.pk)
            if door is None:
                continue
            touched[door.endpoint_id] = door
            self._weigh(result, door)
        for door in touched.values():
            door.save(using=self.using)
            announce(door, before[door.endpoint_id], using=self.using)
            if door.state != before[door.endpoint_id]:
                self.changed.add(door.subscription_id)

    def _weigh(self, result: Result, door: Health) -> None:
        job, told = result.job, evidence(result)
        state = policy.attempted(
            door.value,
            Attempted(
                began_at=result.started_at,
                event=job.delivery.event_id,
                evidence=told,
                reason=result.outcome.reason,
            ),
            others_wait=self.others_wait.get(door.subscription_id, False),
            now=self.now,
            thresholds=self.subscriptions[door.subscription_id].health_thresholds,
        )
        if state != door.value:
            door.become(state)
        if job.is_trial:
            door.trial_until = None
        if told is Evidence.WELL:
            door.succeeded_at = self.now
        elif told is Evidence.FAILING:
            door.failed_at = self.now
        if result.outcome.endpoint_gone and door.endpoint.is_usable:
            self._disable(door, result.outcome.reason)

    def _disable(self, door: Health, reason: str) -> None:
        endpoint = door.endpoint
        endpoint.disabled_at, endpoint.disabled_reason = self.now, reason
        Endpoint.objects.using(self.using).filter(pk=endpoint.pk).update(
            disabled_at=self.now, disabled_reason=reason
        )
        self.changed.add(door.subscription_id)
        self.disabled[endpoint] = reason

    def _follow(
        self, subscription: Subscription, results: Sequence[Result], active: Health | None
    ) -> None:
        """Let these deliveries follow: what failed elsewhere goes to the active endpoint at once.

        Others, which failed at the active endpoint, wait as long as they were told to.
        """
        if active is None:
            return
        deliveries = cast("DeliveryQuerySet", subscription.deliveries.using(self.using))
        failed_elsewhere = [
            one.job.delivery.pk
            for one in results
            if evidence(one) is Evidence.FAILING and one.job.endpoint.pk != active.endpoint_id
        ]
        if failed_elsewhere and not any(one.job.doors > 1 for one in results):
            deliveries.filter(pk__in=failed_elsewhere).bring_forward(now=self.now)
        arrived = sum(
            evidence(one) is Evidence.WELL and one.job.endpoint.pk == active.endpoint_id
            for one in results
        )
        if active.ramp is not None and arrived:
            count = arrived * GROWTH
            release(deliveries, active, subscription=subscription, count=count)
            self.changed.add(subscription.pk)


def begin(results: Sequence[Result], *, now: datetime, using: str) -> Weighing:
    """Look whether the attempts tell anything new, and lock what they may change."""
    rows = loading.doors({one.job.endpoint.pk for one in results}, using=using)
    concerned = {
        one.job.subscription.pk
        for one in results
        if (row := rows.get(one.job.endpoint.pk)) is not None and _is_news(one, row)
    }
    ordered = {one.job.subscription.pk for one in results if one.job.delivery.ordering_key}
    locked = concerned | ordered
    doors = Health.objects.using(using).lock(locked) if locked else {}
    weighing = Weighing(
        results=results,
        now=now,
        using=using,
        endpoints=set(rows),
        doors={key: doors[key] for key in concerned},
        subscriptions=Subscription.objects.using(using).in_bulk(concerned) if concerned else {},
    )
    for key in concerned:
        weighing.others_wait[key] = _do_others_wait(results, key, using=using)
    _touch(results, rows, concerned, now=now, using=using)
    return weighing


def _do_others_wait(results: Sequence[Result], key: UUID, *, using: str) -> bool:
    """Say whether events wait that could tell an endpoint's fault from that of one event."""
    failing = (
        one.job.delivery
        for one in results
        if one.job.subscription.pk == key and evidence(one) is Evidence.FAILING
    )
    first = next(failing, None)
    if first is None:
        return False
    waiting = Delivery.objects.using(using).waiting().filter(subscription_id=key)
    if first.ordering_key:
        # What waits behind it tells nothing until it is over.
        waiting = waiting.exclude(ordering_key=first.ordering_key)
    return waiting.exclude(event_id=first.event_id).exists()


def announce(door: Health, before: str, *, using: str) -> None:
    """Tell that an endpoint fell or recovered, once that is committed."""
    endpoint = door.endpoint
    if door.state == before:
        return
    if door.state == Health.State.HEALTHY:
        recovered = partial(
            signals.endpoint_recovered.send_robust, sender=Endpoint, endpoint=endpoint
        )
        transaction.on_commit(lambda: recovered() and None, using=using)
    elif before == Health.State.HEALTHY:
        fell = partial(
            signals.endpoint_unhealthy.send_robust,
            sender=Endpoint,
            endpoint=endpoint,
            reason=door.reason,
        )
        transaction.on_commit(lambda: fell() and None, using=using)


def release(
    deliveries: DeliveryQuerySet, active: Health, *, subscription: Subscription, count: int
) -> int:
    """Release some of what is held while the active endpoint starts slowly; in the end all."""
    released = deliveries.release(limit=count)
    active.ramp = (active.ramp or 0) + released
    if released < count or active.ramp >= SLOW_START_ENDS:
        active.ramp, active.flowed_at = None, DatabaseNow()
        released += let_flow(subscription, deliveries)
    active.save(using=deliveries.db, update_fields=["ramp", "flowed_at"])
    return released


def evidence(result: Result) -> Evidence:
    """Return what an attempt says of its endpoint."""
    outcome = result.outcome
    return policy.evidence_of(succeeded=outcome.succeeded, reason=outcome.reason)


def _is_news(result: Result, row: Health) -> bool:
    return (
        row.state != Health.State.HEALTHY
        or row.ramp is not None
        or bool(row.failures or row.window_failures)
        or result.job.is_trial
        or result.outcome.endpoint_gone
        or evidence(result) is Evidence.FAILING
    )


def _touch(
    results: Iterable[Result],
    rows: dict[UUID, Health],
    concerned: set[UUID],
    *,
    now: datetime,
    using: str,
) -> None:
    old = {
        row.pk
        for one in results
        if (row := rows.get(one.job.endpoint.pk)) is not None
        and row.subscription_id not in concerned
        and evidence(one) is Evidence.WELL
        and (row.succeeded_at is None or not row.succeeded_at <= now < row.succeeded_at + TOUCH)
    }
    if old:
        Health.objects.using(using).filter(pk__in=old).update(succeeded_at=now)


def _why(results: Sequence[Result]) -> str:
    reasons = [one.outcome.reason for one in results if one.outcome.reason]
    return reasons[-1] if reasons else "a trial succeeded"

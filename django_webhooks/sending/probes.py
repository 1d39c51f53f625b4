"""Probes: find out whether endpoints are alive that no delivery has told enough about.

Each endpoint is probed by one worker at a time, spread over the interval; many are probed at once,
so that endpoints that hang cost one time-out together. No transaction is open meanwhile.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import connections, transaction
from django.db.models import Exists, OuterRef, Q

from ..conf import settings
from ..fields import sealed_fields
from ..models import Delivery, Endpoint, Health, Probe, Subscription, Switch
from ..models.switch import reconsider
from ..policies import health as policy
from . import attempt, outbox, transport
from .clock import DatabaseClock
from .health import announce
from .transport import Answer, NoAnswer

#: Endpoints taken at once.
BATCH = 256
#: Probes recorded by one transaction.
RECORDED_AT_ONCE = 100
#: Seconds between two looks for results.
TICK = 0.1
#: Part of the interval over which probes are spread.
SPREAD = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What a probe brought; a reason where it failed."""

    door: Health
    started_at: datetime
    duration: float
    response: Answer | NoAnswer | None

    @property
    def reason(self) -> str:
        """Why it failed, empty where it succeeded."""
        if isinstance(self.response, NoAnswer):
            return self.response.reason
        if self.response is not None and not 200 <= self.response.status < 300:
            return f"http_{self.response.status}"
        return ""

    @property
    def is_evidence(self) -> bool:
        """Whether it tells of the endpoint rather than of us."""
        return self.reason != "internal"


def check_all(
    *,
    using: str | None = None,
    clock: Callable[[], datetime] | None = None,
    endpoints: Collection[UUID] | None = None,
) -> int:
    """Probe the endpoints that are due, or these now, and return how many were probed.

    At most WEBHOOKS_PROBES_IN_FLIGHT are under way at once, each for WEBHOOKS_PROBE_TIMEOUT. After
    that time none is begun: while some endpoint hangs the next is always due, and a worker process
    has other work.
    """
    using = using or outbox.database()
    clock = clock or DatabaseClock(using=using)
    size, count = settings.WEBHOOKS_PROBES_IN_FLIGHT, 0
    running: set[Future[Checked]] = set()
    threads = ThreadPoolExecutor(size, thread_name_prefix="webhooks-probe")
    wanted = None if endpoints is None else list(endpoints)
    ends = time.monotonic() + settings.WEBHOOKS_PROBE_TIMEOUT
    try:
        while True:
            is_ending = wanted is None and time.monotonic() >= ends
            room = 0 if is_ending else min(BATCH, size - len(running))
            taken = _take(now=clock(), limit=room, using=using, endpoints=wanted) if room else []
            if wanted is not None and room:
                keys = {door.pk for door in taken}
                wanted = [one for one in wanted if one not in keys] if taken else []
            silent, audible = _sort(taken, now=clock(), forced=endpoints is not None)
            _settle_unprobed(silent, now=clock(), using=using)
            running |= {threads.submit(_probe, door, clock) for door in audible}
            if not (running or taken):
                return count
            done, running = wait(running, timeout=0 if taken else TICK, return_when=FIRST_COMPLETED)
            finished = list(done)
            for start in range(0, len(finished), RECORDED_AT_ONCE):
                group = finished[start : start + RECORDED_AT_ONCE]
                count += len(group)
                record([one.result() for one in group], now=clock(), using=using)
    finally:
        threads.shutdown(wait=False, cancel_futures=True)


def record(checked: Sequence[Checked], *, now: datetime, using: str) -> None:
    """Write what probes brought, and what follows for health and for the active endpoints."""
    subscriptions = Subscription.objects.using(using).in_bulk(
        {one.door.subscription_id for one in checked}
    )
    found = {one.door.pk: one for one in checked}
    with transaction.atomic(using=using):
        locked = Health.objects.using(using).lock(subscriptions.keys())
        for key, doors in locked.items():
            own = [door for door in doors if door.pk in found]
            for door in own:
                _weigh(door, found[door.pk], subscriptions[key], now=now, using=using)
            _follow(subscriptions[key], doors, own, now=now, using=using)
        existing = {door.pk for doors in locked.values() for door in doors}
        Probe.objects.using(using).bulk_create(
            [_row(one) for one in checked if one.door.pk in existing]
        )


def repair(*, using: str | None = None) -> int:
    """Give health to endpoints that have none, and choose where nobody did; return how many.

    Rows that were written past the models, by bulk_create() or by SQL, come without.
    """
    using = using or outbox.database()
    doors = Health.objects.using(using).filter(subscription_id=OuterRef("pk"))
    bare = Endpoint.objects.using(using).filter(subscription_id=OuterRef("pk"), health__isnull=True)
    callable_ = doors.filter(state=Health.State.HEALTHY, endpoint__disabled_at__isnull=True)
    broken = Subscription.objects.using(using).filter(
        Exists(bare) | (Exists(callable_) & ~Exists(doors.filter(is_active=True)))
    )
    found = list(broken[:BATCH])
    for subscription in found:
        reconsider(subscription, using=using, reason="repaired")
    return len(found)


def _take(
    *, now: datetime, limit: int, using: str, endpoints: Sequence[UUID] | None
) -> list[Health]:
    """Take endpoints for this worker: none else probes them before its deadline has passed."""
    token = uuid.uuid4()
    longest = max(settings.WEBHOOKS_PROBE_INTERVAL, settings.WEBHOOKS_PROBE_TIMEOUT) * 3
    rows = Health.objects.using(using)
    # What is due far ahead was written before a clock was set back.
    due = Q(probe_due_at__lte=now) | Q(probe_due_at__gt=now + timedelta(seconds=longest))
    if endpoints is not None:
        due = Q(pk__in=endpoints)
    found = rows.filter(due, endpoint__disabled_at__isnull=True).exclude(
        subscription__status=Subscription.Status.DISABLED
    )
    until = now + timedelta(seconds=settings.WEBHOOKS_PROBE_TIMEOUT * 2 + 5)
    mark = {"probe_due_at": until, "probe_token": token}
    with transaction.atomic(using=using):
        if connections[using].features.has_select_for_update_skip_locked:
            # Only these rows: those that it joins are other people's.
            keys = list(found.order_by("probe_due_at").values_list("pk", flat=True)[:limit])
            keys = list(
                rows.filter(due, pk__in=keys)
                .select_for_update(skip_locked=True)
                .values_list("pk", flat=True)
            )
            rows.filter(pk__in=keys).update(**mark)
        else:
            keys = list(found.order_by("probe_due_at").values_list("pk", flat=True)[:limit])
            rows.filter(due, pk__in=keys).update(**mark)
    taken = rows.filter(pk__in=keys, probe_token=token)
    taken = taken.select_related("endpoint", "subscription")
    return list(taken.prefetch_related("subscription__signing_keys"))


def _sort(
    doors: Sequence[Health], *, now: datetime, forced: bool
) -> tuple[list[Health], list[Health]]:
    """Return the doors that need no probe, and those that do."""
    silent = [
        door
        for door in doors
        if door.endpoint.probe == Endpoint.ProbeKind.NONE
        or (not forced and _has_told_enough(door, now=now))
    ]
    return silent, [door for door in doors if door not in silent]


def _has_told_enough(door: Health, *, now: datetime) -> bool:
    if door.state != Health.State.HEALTHY or door.succeeded_at is None:
        return False
    return now - door.succeeded_at < timedelta(seconds=settings.WEBHOOKS_PROBE_INTERVAL)


def _settle_unprobed(doors: Sequence[Health], *, now: datetime, using: str) -> None:
    """Let time pass for those that are not probed."""
    if not doors:
        return
    subscriptions = {door.subscription_id: door.subscription for door in doors}
    keys = {door.pk for door in doors}
    with transaction.atomic(using=using):
        for key, locked in Health.objects.using(using).lock(subscriptions.keys()).items():
            own = [door for door in locked if door.pk in keys]
            for door in own:
                if door.endpoint.probe == Endpoint.ProbeKind.NONE:
                    _become(door, policy.waited(door.value, now=now), now=now, using=using)
                door.probe_due_at, door.probe_token = _next(door, now=now), None
                door.save(using=using)
            _follow(subscriptions[key], locked, own, now=now, using=using)


def _probe(door: Health, clock: Callable[[], datetime]) -> Checked:
    started_at, began = clock(), time.monotonic()
    try:
        response = _ask(door, now=started_at)
    except Exception as error:  # One bad row must not stop its neighbours.
        response = NoAnswer(reason="internal", detail=f"{type(error).__name__} in the prober.")
    return Checked(
        door=door,
        started_at=started_at,
        duration=time.monotonic() - began,
        response=response,
    )


def _ask(door: Health, *, now: datetime) -> Answer | NoAnswer | None:
    endpoint, timeout = door.endpoint, settings.WEBHOOKS_PROBE_TIMEOUT
    if sealed := sealed_fields(endpoint):
        # It says nothing of the receiver.
        return NoAnswer(reason="internal", detail=next(iter(sealed.values())))
    how: dict[str, Any] = {
        "timeout": timeout,
        "trust": attempt.trust(endpoint),
        "tenant": attempt.tenant(door.subscription),
    }
    if endpoint.probe != Endpoint.ProbeKind.CONNECT and (no := attempt.refusal(endpoint)):
        return no
    match endpoint.probe:
        case Endpoint.ProbeKind.HTTP:
            headers = {"user-agent": attempt.USER_AGENT, **attempt.credentials(endpoint)}
            url = endpoint.health_url
            return transport.get(url, headers=headers, **how)
        case Endpoint.ProbeKind.PING:
            headers, body = attempt.ping(door.subscription, endpoint, now=now)
            return transport.post(endpoint.url, headers=headers, body=body, **how)
    return transport.connect(endpoint.url, **how)


def _weigh(
    door: Health, checked: Checked, subscription: Subscription, *, now: datetime, using: str
) -> None:
    if checked.is_evidence:
        state = policy.probed(
            door.value,
            succeeded=not checked.reason,
            reason=checked.reason,
            now=now,
            thresholds=subscription.health_thresholds,
        )
        _become(door, state, now=now, using=using)
    door.probed_at, door.probe_token = now, None
    door.probe_due_at = _next(door, now=now)
    door.save(using=using)


def _become(door: Health, state: policy.State, *, now: datetime, using: str) -> None:
    before = door.state
    if state != door.value:
        door.become(state)
    announce(door, before, using=using)


def _follow(
    subscription: Subscription,
    doors: Sequence[Health],
    own: Sequence[Health],
    *,
    now: datetime,
    using: str,
) -> None:
    """Switch where the health asks for it, and let one delivery try what is on trial."""
    reasons = [door.reason for door in own if door.reason]
    Switch.objects.using(using).settle(
        subscription, doors, now=now, reason=reasons[-1] if reasons else "a probe succeeded"
    )
    on_trial = any(door.state == Health.State.TRIAL and door.trial_until is None for door in own)
    if on_trial and subscription.is_active and not any(door.is_active for door in doors):
        deliveries = Delivery.objects.using(using).filter(subscription=subscription)
        if not deliveries.due(now).exists():
            deliveries.release(limit=1)


def _next(door: Health, *, now: datetime) -> datetime:
    if door.state == Health.State.HEALTHY:
        interval = settings.WEBHOOKS_PROBE_INTERVAL
    else:
        interval = settings.WEBHOOKS_PROBE_INTERVAL_UNHEALTHY
    # Spread, so that endpoints that were added together are not probed together; never later.
    return now + timedelta(seconds=interval * (1 - SPREAD * random.random()))  # nosec B311


def _row(checked: Checked) -> Probe:
    response = checked.response
    return Probe(
        endpoint_id=checked.door.pk,
        kind=checked.door.endpoint.probe,
        started_at=checked.started_at,
        duration_ms=round(checked.duration * 1000),
        succeeded=not checked.reason,
        reason=checked.reason[:40],
        status_code=response.status if isinstance(response, Answer) else None,
        detail=response.detail[:500] if isinstance(response, NoAnswer) else "",
    )

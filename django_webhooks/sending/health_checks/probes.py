"""Probes: find out whether endpoints are alive that no delivery has told enough about.

Each endpoint is probed by one worker at a time, spread over the interval; many are probed at once,
so that endpoints that hang cost one time-out together. No transaction is open meanwhile.
"""

from __future__ import annotations

import logging
import random
import time
import uuid
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from datetime import datetime, timedelta
from uuid import UUID

from django.db import connections, transaction
from django.db.models import Exists, OuterRef, Q, QuerySet

from ...conf import settings
from ...models import Delivery, Endpoint, EndpointHealth, Probe, Subscription, Switch
from ...policies import health as policy
from ...policies.reasons import SwitchReason
from .. import database
from ..database import DatabaseClock
from ..results import FAILURES
from ..results.health import announce
from . import probe

logger = logging.getLogger("django_webhooks.health")

#: Seconds for one probe, unless attempts have less: an endpoint that takes longer to say that it is
#: alive is not ready for traffic, and one that hangs delays the others by so long.
PROBE_SECONDS = 5.0
#: Probes under way at once in one worker process: their threads mostly wait, and endpoints that
#: hang cost one time-out together while they are fewer.
IN_FLIGHT = 512
#: Endpoints taken at once.
BATCH = 256
#: Probes recorded by one transaction.
RECORDED_AT_ONCE = 100
#: Seconds between two looks for results.
TICK = 0.1
#: Part of the interval over which probes are spread.
SPREAD = 0.2


def _timeout() -> float:
    return float(min(PROBE_SECONDS, settings.WEBHOOKS_TIMEOUT_SECONDS))


def check_all(
    *,
    using: str | None = None,
    clock: Callable[[], datetime] | None = None,
    endpoints: Collection[UUID] | None = None,
    only_fallen: bool = False,
) -> int:
    """Probe the endpoints that are due, or these now, and return how many were probed.

    ``only_fallen`` leaves out those that are healthy.

    At most IN_FLIGHT are under way at once, each for at most PROBE_SECONDS. After that time none
    is begun: while some endpoint hangs the next is always due, and a worker process has other work.
    """
    using = using or database.alias()
    clock = clock or DatabaseClock(using=using)
    size, count = IN_FLIGHT, 0
    running: set[Future[probe.Checked]] = set()
    threads = ThreadPoolExecutor(size, thread_name_prefix="webhooks-probe")
    wanted = None if endpoints is None else list(endpoints)
    timeout = _timeout()
    ends = time.monotonic() + timeout
    try:
        while True:
            is_ending = wanted is None and time.monotonic() >= ends
            room = 0 if is_ending else min(BATCH, size - len(running))
            taken = (
                _take(
                    now=clock(),
                    limit=room,
                    using=using,
                    endpoints=wanted,
                    only_fallen=only_fallen,
                )
                if room
                else []
            )
            if wanted is not None and room:
                keys = {candidate.pk for candidate in taken}
                wanted = [one for one in wanted if one not in keys] if taken else []
            silent, audible = _sort(taken, now=clock(), forced=endpoints is not None)
            _settle_unprobed(silent, now=clock(), using=using)
            running |= {threads.submit(probe.make, one, clock, timeout) for one in audible}
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


def are_due(*, using: str, now: datetime) -> bool:
    """Say whether endpoints that fell are to be probed by now."""
    fallen = EndpointHealth.objects.using(using).exclude(state=EndpointHealth.State.HEALTHY)
    return _probed(fallen.filter(_due(now))).exists()


def record(checked: Sequence[probe.Checked], *, now: datetime, using: str) -> None:
    """Write what probes brought, and what follows for health and for the active endpoints.

    Where they cannot be written together, each is by itself: one keeps none of the others from it.
    """
    try:
        _record(checked, now=now, using=using)
    except FAILURES:
        raise
    except Exception:  # One bad row must not stop its neighbours.
        if len(checked) == 1:
            logger.exception(
                "What a probe of endpoint %s brought is refused.", checked[0].candidate.pk
            )
            return
        for one in checked:
            record([one], now=now, using=using)


def _record(checked: Sequence[probe.Checked], *, now: datetime, using: str) -> None:
    subscriptions = Subscription.objects.using(using).in_bulk(
        {one.candidate.subscription_id for one in checked}
    )
    found = {one.candidate.pk: one for one in checked}
    with transaction.atomic(using=using):
        locked = Endpoint.objects.using(using).lock_health(subscriptions.keys())
        for key, candidates in locked.items():
            own = [candidate for candidate in candidates if candidate.pk in found]
            for candidate in own:
                _weigh(candidate, found[candidate.pk], subscriptions[key], now=now, using=using)
            _follow(subscriptions[key], candidates, own, now=now, using=using)
        existing = {candidate.pk for candidates in locked.values() for candidate in candidates}
        Probe.objects.using(using).bulk_create(
            [probe.row(one) for one in checked if one.candidate.pk in existing]
        )


def repair(*, using: str | None = None) -> int:
    """Give health to endpoints that have none, and choose where nobody did; return how many.

    Rows that were written past the models, by bulk_create() or by SQL, come without.
    """
    using = using or database.alias()
    candidates = EndpointHealth.objects.using(using).filter(subscription_id=OuterRef("pk"))
    bare = Endpoint.objects.using(using).filter(subscription_id=OuterRef("pk"), health__isnull=True)
    callable_ = candidates.filter(
        state=EndpointHealth.State.HEALTHY, endpoint__disabled_at__isnull=True
    )
    broken = Subscription.objects.using(using).filter(
        Exists(bare) | (Exists(callable_) & ~Exists(candidates.filter(is_active=True)))
    )
    found = list(broken[:BATCH])
    for subscription in found:
        subscription.reconsider(using=using, reason=SwitchReason.REPAIRED)
    return len(found)


def _take(
    *,
    now: datetime,
    limit: int,
    using: str,
    endpoints: Sequence[UUID] | None,
    only_fallen: bool = False,
) -> list[EndpointHealth]:
    """Take endpoints for this worker: none else probes them before its deadline has passed."""
    token = uuid.uuid4()
    rows = EndpointHealth.objects.using(using)
    due = _due(now) if endpoints is None else Q(pk__in=endpoints)
    found = _probed(rows.filter(due))
    if only_fallen:
        found = found.exclude(state=EndpointHealth.State.HEALTHY)
    until = now + timedelta(seconds=_timeout() * 2 + 5)
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


def _due(now: datetime) -> Q:
    longest = max(settings.WEBHOOKS_PROBE_INTERVAL_SECONDS, _timeout()) * 3
    # A probe due far ahead was written before a clock was set back.
    return Q(probe_due_at__lte=now) | Q(probe_due_at__gt=now + timedelta(seconds=longest))


def _probed(rows: QuerySet[EndpointHealth]) -> QuerySet[EndpointHealth]:
    """Leave out what is not probed at all."""
    return rows.filter(endpoint__disabled_at__isnull=True).exclude(
        subscription__status=Subscription.Status.DISABLED
    )


def _sort(
    candidates: Sequence[EndpointHealth], *, now: datetime, forced: bool
) -> tuple[list[EndpointHealth], list[EndpointHealth]]:
    """Return the endpoints that need no probe, and those that do."""
    silent = [
        candidate
        for candidate in candidates
        if candidate.endpoint.probe == Endpoint.ProbeKind.NONE
        or (not forced and _has_told_enough(candidate, now=now))
    ]
    return silent, [candidate for candidate in candidates if candidate not in silent]


def _has_told_enough(candidate: EndpointHealth, *, now: datetime) -> bool:
    if candidate.state != EndpointHealth.State.HEALTHY or candidate.succeeded_at is None:
        return False
    return now - candidate.succeeded_at < timedelta(
        seconds=settings.WEBHOOKS_PROBE_INTERVAL_SECONDS
    )


def _settle_unprobed(candidates: Sequence[EndpointHealth], *, now: datetime, using: str) -> None:
    """Let time pass for those that are not probed."""
    if not candidates:
        return
    subscriptions = {candidate.subscription_id: candidate.subscription for candidate in candidates}
    keys = {candidate.pk for candidate in candidates}
    with transaction.atomic(using=using):
        for key, locked in Endpoint.objects.using(using).lock_health(subscriptions.keys()).items():
            own = [candidate for candidate in locked if candidate.pk in keys]
            for candidate in own:
                if candidate.endpoint.probe == Endpoint.ProbeKind.NONE:
                    _become(
                        candidate, policy.waited(candidate.value, now=now), now=now, using=using
                    )
                candidate.probe_due_at, candidate.probe_token = _next(candidate, now=now), None
                candidate.save(using=using)
            _follow(subscriptions[key], locked, own, now=now, using=using)


def _weigh(
    candidate: EndpointHealth,
    checked: probe.Checked,
    subscription: Subscription,
    *,
    now: datetime,
    using: str,
) -> None:
    if checked.is_evidence:
        state = policy.probed(
            candidate.value,
            succeeded=not checked.reason,
            reason=checked.reason,
            now=now,
            thresholds=subscription.health_thresholds,
        )
        _become(candidate, state, now=now, using=using)
    candidate.probed_at, candidate.probe_token = now, None
    candidate.probe_due_at = _next(candidate, now=now)
    candidate.save(using=using)


def _become(candidate: EndpointHealth, state: policy.State, *, now: datetime, using: str) -> None:
    before = candidate.state
    if state != candidate.value:
        candidate.become(state)
    announce(candidate, before, using=using)


def _follow(
    subscription: Subscription,
    candidates: Sequence[EndpointHealth],
    own: Sequence[EndpointHealth],
    *,
    now: datetime,
    using: str,
) -> None:
    """Switch where the health asks for it, and let one delivery try what is on trial."""
    reasons = [candidate.reason for candidate in own if candidate.reason]
    Switch.objects.using(using).settle(
        subscription,
        candidates,
        now=now,
        reason=reasons[-1] if reasons else SwitchReason.PROBE_SUCCEEDED,
    )
    on_trial = [
        candidate
        for candidate in own
        if candidate.state == EndpointHealth.State.TRIAL and candidate.trial_until is None
    ]
    if (
        on_trial
        and subscription.is_active
        and not any(candidate.is_active for candidate in candidates)
    ):
        deliveries = Delivery.objects.using(using).filter(subscription=subscription)
        if not deliveries.due(now).exists():
            deliveries.release_for_trial(on_trial[0].reason)


def _next(candidate: EndpointHealth, *, now: datetime) -> datetime:
    if candidate.state == EndpointHealth.State.HEALTHY:
        interval = settings.WEBHOOKS_PROBE_INTERVAL_SECONDS
    else:
        interval = settings.WEBHOOKS_PROBE_INTERVAL_UNHEALTHY_SECONDS
    # Spread, so that endpoints that were added together are not probed together; never later.
    return now + timedelta(seconds=interval * (1 - SPREAD * random.random()))  # nosec B311

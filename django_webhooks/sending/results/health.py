"""Updates of endpoints' health: what attempts tell of them, and what follows, in one transaction.

Rows are locked in this order: the health of all endpoints of a subscription, its rate limit state
where it has limits, then deliveries. While all is well nothing is locked and nothing is written,
except a last success now and then; and what has an order is locked, so that turns are passed on in
peace (see ``sending.claims.ordering``).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from operator import attrgetter
from typing import cast
from uuid import UUID

from ... import signals
from ...commits import send_after_commit
from ...fields import DatabaseNow
from ...models import Attempt, Delivery, Endpoint, EndpointHealth, Subscription, Switch
from ...models.delivery import DeliveryQuerySet
from ...models.rate_limit_state import release_all
from ...policies import health as policy
from ...policies.health import Attempted, Evidence
from ...policies.reasons import SwitchReason
from ..attempts import Result
from ..database import loaders

#: How old a recorded last success may be while all is well.
TOUCH = timedelta(seconds=5)
#: Deliveries that each success releases while an endpoint that recovered starts slowly.
GROWTH = 2
#: Deliveries released slowly before all are.
SLOW_START_ENDS = 256


@dataclass(kw_only=True)
class HealthUpdate:
    """Attempts of some subscriptions, and the locked endpoints that they tell of."""

    results: Sequence[Result]
    now: datetime
    using: str
    candidates: dict[UUID, list[EndpointHealth]]
    #: As they are now: a worker's own may be older than a change by hand.
    subscriptions: dict[UUID, Subscription]
    others_wait: dict[UUID, bool] = field(default_factory=dict)
    #: Deliveries that another endpoint refused as well: it is the event's own content.
    refused_elsewhere: set[UUID] = field(default_factory=set)
    #: Subscriptions whose routes changed, or that have work due that was held.
    changed: set[UUID] = field(default_factory=set)
    #: Endpoints whose receiver said that they are gone, and why.
    disabled: dict[Endpoint, str] = field(default_factory=dict)

    def finish(self) -> None:
        """Write what the attempts tell.

        Called when the deliveries have been moved on, in the same transaction.
        """
        for key, subscription in self.subscriptions.items():
            candidates = self.candidates[key]
            results = [one for one in self.results if one.job.subscription.pk == key]
            self._fold(results, {candidate.endpoint_id: candidate for candidate in candidates})
            switch = Switch.objects.using(self.using).settle(
                subscription, candidates, now=self.now, reason=_why(results)
            )
            active = next((candidate for candidate in candidates if candidate.is_active), None)
            self._follow(subscription, results, active)
            if switch is not None or any(
                active is None or one.job.endpoint.pk != active.endpoint_id for one in results
            ):
                # Another worker may have switched meanwhile.
                self.changed.add(key)

    def _fold(self, results: Sequence[Result], candidates: dict[UUID, EndpointHealth]) -> None:
        touched: dict[UUID, EndpointHealth] = {}
        before = {key: candidate.state for key, candidate in candidates.items()}
        # Several requests are answered in any order: failures are in a row as they began.
        for result in sorted(results, key=attrgetter("started_at")):
            candidate = candidates.get(result.job.endpoint.pk)
            if candidate is None:
                continue
            touched[candidate.endpoint_id] = candidate
            self._weigh(result, candidate)
        for candidate in touched.values():
            candidate.save(using=self.using)
            announce(candidate, before[candidate.endpoint_id], using=self.using)
            if candidate.state != before[candidate.endpoint_id]:
                self.changed.add(candidate.subscription_id)

    def _weigh(self, result: Result, candidate: EndpointHealth) -> None:
        job, told = result.job, self._evidence(result)
        known_since = job.endpoint.health.since
        is_known = known_since == candidate.since
        if not is_known:
            # Its sender chose the endpoint by an earlier state, and is to read the present one.
            self.changed.add(candidate.subscription_id)
        state = policy.attempted(
            candidate.value,
            Attempted(
                known_since=known_since,
                event=job.delivery.event_id,
                evidence=told,
                reason=result.outcome.reason,
                is_first=job.number == 1,
                is_outdated=_is_outdated(result, candidate),
            ),
            others_wait=self.others_wait.get(candidate.subscription_id, False),
            now=self.now,
            thresholds=self.subscriptions[candidate.subscription_id].health_thresholds,
        )
        if state != candidate.value:
            candidate.become(state)
        if job.is_trial and is_known:
            candidate.trial_until = None
        if told is Evidence.WELL:
            candidate.succeeded_at = self.now
        elif told.is_against:
            candidate.failed_at = self.now
        if result.outcome.endpoint_gone and candidate.endpoint.is_usable:
            self._disable(candidate, result.outcome.reason)

    def _evidence(self, result: Result) -> Evidence:
        told = evidence(result)
        if told is Evidence.REFUSED and result.job.delivery.pk in self.refused_elsewhere:
            return Evidence.NOTHING
        return told

    def _disable(self, candidate: EndpointHealth, reason: str) -> None:
        endpoint = candidate.endpoint
        endpoint.disabled_at, endpoint.disabled_reason = self.now, reason
        Endpoint.objects.using(self.using).filter(pk=endpoint.pk).update(
            disabled_at=self.now, disabled_reason=reason
        )
        self.changed.add(candidate.subscription_id)
        self.disabled[endpoint] = reason

    def _follow(
        self, subscription: Subscription, results: Sequence[Result], active: EndpointHealth | None
    ) -> None:
        """Let these deliveries follow: what failed elsewhere goes to the active endpoint at once.

        Others, which failed at the active endpoint, wait as long as they were told to; so do those
        that were sent elsewhere out of turn.
        """
        if active is None:
            return
        deliveries = cast("DeliveryQuerySet", subscription.deliveries.using(self.using))
        failed_elsewhere = [
            one.job.delivery.pk
            for one in results
            if evidence(one).is_against
            and one.job.endpoint.pk != active.endpoint_id
            and one.job.delivery.endpoint_id is None
        ]
        if failed_elsewhere and not any(one.job.endpoint_count > 1 for one in results):
            deliveries.filter(pk__in=failed_elsewhere).bring_forward(now=self.now)
        arrived = sum(
            evidence(one) is Evidence.WELL and one.job.endpoint.pk == active.endpoint_id
            for one in results
        )
        if active.slow_start_released is not None and arrived:
            count = arrived * GROWTH
            release(deliveries, active, subscription=subscription, count=count)
            self.changed.add(subscription.pk)


def begin(
    results: Sequence[Result], *, needed: Collection[UUID] = (), now: datetime, using: str
) -> HealthUpdate:
    """Look whether the attempts tell anything new, and lock what they may change.

    ``needed`` are subscriptions whose health is asked for whatever the attempts tell, and although
    the endpoint may have been deleted meanwhile.
    """
    rows = loaders.endpoint_health({one.job.endpoint.pk for one in results}, using=using)
    concerned = set(needed) | {
        one.job.subscription.pk
        for one in results
        if (row := rows.get(one.job.endpoint.pk)) is not None and _is_news(one, row)
    }
    ordered = {one.job.subscription.pk for one in results if one.job.delivery.partition}
    locked = concerned | ordered
    candidates = Endpoint.objects.using(using).lock_health(locked) if locked else {}
    health_update = HealthUpdate(
        results=results,
        now=now,
        using=using,
        candidates={key: candidates[key] for key in concerned},
        subscriptions=Subscription.objects.using(using).in_bulk(concerned) if concerned else {},
        refused_elsewhere=_refused_elsewhere(results, candidates, using=using),
    )
    for key in concerned:
        health_update.others_wait[key] = _do_others_wait(results, key, using=using)
    _touch(results, rows, concerned, now=now, using=using)
    return health_update


def _refused_elsewhere(
    results: Sequence[Result], candidates: dict[UUID, list[EndpointHealth]], *, using: str
) -> set[UUID]:
    """Return which of the deliveries that were refused another endpoint had refused before."""
    refused = {
        one.job.delivery.pk: one.job.endpoint.pk
        for one in results
        if one.job.number > 1
        and evidence(one) is Evidence.REFUSED
        and len(candidates.get(one.job.subscription.pk, ())) > 1
    }
    if not refused:
        return set()
    before = Attempt.objects.using(using).filter(delivery_id__in=list(refused))
    told = before.values_list("delivery_id", "endpoint_id", "reason")
    return {
        key
        for key, endpoint, reason in told
        if endpoint != refused[key] and policy.is_refusal(reason)
    }


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
    if first.partition:
        # Deliveries that wait behind it tell nothing until it is over.
        waiting = waiting.exclude(partition=first.partition)
    return waiting.exclude(event_id=first.event_id).exists()


def announce(candidate: EndpointHealth, before: str, *, using: str) -> None:
    """Tell that an endpoint fell or recovered, once that is committed."""
    endpoint = candidate.endpoint
    if candidate.state == before:
        return
    if candidate.state == EndpointHealth.State.HEALTHY:
        send_after_commit(
            signals.endpoint_recovered, sender=Endpoint, using=using, endpoint=endpoint
        )
    elif before == EndpointHealth.State.HEALTHY:
        send_after_commit(
            signals.endpoint_unhealthy,
            sender=Endpoint,
            using=using,
            endpoint=endpoint,
            reason=candidate.reason,
        )


def release(
    deliveries: DeliveryQuerySet, active: EndpointHealth, *, subscription: Subscription, count: int
) -> int:
    """Release some of what is held while the active endpoint starts slowly; in the end all."""
    released = deliveries.release(limit=count)
    active.slow_start_released = (active.slow_start_released or 0) + released
    if released < count or active.slow_start_released >= SLOW_START_ENDS:
        active.slow_start_released, active.fully_released_at = None, DatabaseNow()
        released += release_all(subscription, deliveries)
    active.save(using=deliveries.db, update_fields=["slow_start_released", "fully_released_at"])
    return released


def _is_outdated(result: Result, candidate: EndpointHealth) -> bool:
    """Say whether a delivery succeeded at the endpoint since the attempt ended."""
    ended_at = result.started_at + timedelta(seconds=result.duration)
    return candidate.succeeded_at is not None and ended_at < candidate.succeeded_at


def evidence(result: Result) -> Evidence:
    """Return what an attempt says of its endpoint, but that it is gone: then it is disabled."""
    outcome = result.outcome
    if outcome.endpoint_gone:
        return Evidence.NOTHING
    return policy.evidence_of(
        succeeded=outcome.succeeded,
        reason=outcome.reason,
        statuses=result.job.subscription.status_policy,
    )


def _is_news(result: Result, row: EndpointHealth) -> bool:
    return (
        row.state != EndpointHealth.State.HEALTHY
        or row.slow_start_released is not None
        or bool(row.failures or row.window_failures)
        or result.job.is_trial
        or result.outcome.endpoint_gone
        or evidence(result).is_against
    )


def _touch(
    results: Iterable[Result],
    rows: dict[UUID, EndpointHealth],
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
        EndpointHealth.objects.using(using).filter(pk__in=old).update(succeeded_at=now)


def _why(results: Sequence[Result]) -> str:
    reasons = [one.outcome.reason for one in results if one.outcome.reason]
    return reasons[-1] if reasons else SwitchReason.TRIAL_SUCCEEDED

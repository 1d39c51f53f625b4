"""Rerouting: a delivery that its endpoint does not take is tried at another one before it is lost.

A switch needs evidence of several events; a delivery cannot always wait for it. In the recorder's
transaction, where the health of the subscription is locked, decisions are looked at once more:

- *Gone* (410): the delivery goes to the next endpoint, or is held until one is there. It is given
  up only where the subscription has no other endpoint and ``client_errors_final`` says so.
- *Given up*, as its attempts are used up or its answer is final: attempts that were answered 410
  do not count; and an endpoint that is healthy and was not tried with it is tried, at once.
- *Refused* (3xx, 4xx) several times, or once where others wait behind it in order: likewise.

``webhook-no-retry`` and refusals that speak of the event alone (``health_statuses``) are left as
they are, and so are deliveries that somebody meant for one endpoint, and a pin.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from uuid import UUID

from ...models import Attempt, Delivery, Endpoint, EndpointHealth, Subscription
from ...policies import failover
from ...policies.failover import Mode
from ...policies.health import Evidence
from ...policies.reasons import HttpReason
from ...policies.retry import Decision, GiveUp, TryAgain
from ..attempts import AttemptRecord
from ..attempts import attempt_records as records
from . import health

#: The reason of attempts whose endpoint said that it is gone.
GONE = HttpReason(410)


@dataclass(kw_only=True)
class _Past:
    """Earlier attempts of a delivery: where, and how many found that the endpoint is gone."""

    tried: set[UUID] = field(default_factory=set)
    gone: int = 0


def reroute(
    entries: Sequence[AttemptRecord],
    health_update: health.HealthUpdate,
    *,
    now: datetime,
    using: str,
) -> Sequence[AttemptRecord]:
    """Return the entries, with another decision where their delivery goes elsewhere."""
    looked_at = [entry for entry in entries if _is_concerned(entry, health_update)]
    if not looked_at:
        return entries
    pasts = _pasts([entry.delivery.pk for entry in looked_at], using=using)
    changed: dict[int, AttemptRecord] = {}
    for entry in looked_at:
        past = pasts[entry.delivery.pk]
        past.tried.add(entry.result.job.endpoint.pk)
        past.gone += int(entry.result.outcome.endpoint_gone)
        decision = _decide(entry, past, health_update, now=now, using=using)
        changed[id(entry)] = replace(entry, decision=decision)
        if isinstance(decision, TryAgain) and decision.at <= now:
            health_update.changed.add(entry.result.job.subscription.pk)
    return [changed.get(id(entry), entry) for entry in entries]


def needs_health(entry: AttemptRecord) -> bool:
    """Say whether the health of the subscription is needed to decide what follows."""
    return isinstance(entry.decision, GiveUp) and not entry.result.outcome.is_for_all


def _is_concerned(entry: AttemptRecord, health_update: health.HealthUpdate) -> bool:
    job, outcome = entry.result.job, entry.result.outcome
    subscription = health_update.subscriptions.get(job.subscription.pk)
    if subscription is None or outcome.is_for_all:
        return False
    if isinstance(entry.decision, GiveUp):
        return True
    return (
        isinstance(entry.decision, TryAgain)
        and not outcome.endpoint_gone
        and health.evidence(entry.result) is Evidence.REFUSED
        # A replay is tried elsewhere at its end alone: the column says what it was meant for.
        and not entry.delivery.replay
        and subscription.failover == Mode.SWITCH
        and failover.is_due_elsewhere(
            job.number,
            fall=subscription.health_thresholds.fall,
            is_ordered=bool(entry.delivery.partition),
        )
    )


def _decide(
    entry: AttemptRecord,
    past: _Past,
    health_update: health.HealthUpdate,
    *,
    now: datetime,
    using: str,
) -> Decision:
    job, decision = entry.result.job, entry.decision
    outcome = entry.result.outcome
    subscription = health_update.subscriptions[job.subscription.pk]
    if isinstance(decision, GiveUp) and past.gone and not outcome.endpoint_gone:
        decision = records.decide(entry.result, now=now, free=past.gone)
    if outcome.endpoint_gone and isinstance(decision, GiveUp):
        others = Endpoint.objects.using(using).filter(subscription=subscription)
        if others.exclude(pk=job.endpoint.pk).exists():
            return TryAgain(at=now, reason=outcome.reason)
        return decision
    if not _may_go_elsewhere(entry.delivery, subscription):
        return decision
    if now > entry.delivery.event.created_at + timedelta(seconds=job.policy.max_age):
        return decision
    siblings = health_update.candidates[subscription.pk]
    other = failover.elsewhere(_enabled(siblings), tried=past.tried)
    if other is None:
        return decision
    return TryAgain(at=now, reason=outcome.reason, to=None if other.is_active else other.key)


def _may_go_elsewhere(delivery: Delivery, subscription: Subscription) -> bool:
    # In mode each it has been everywhere.
    is_meant_for_one = bool(delivery.replay and delivery.endpoint_id)
    return subscription.failover == Mode.SWITCH and not is_meant_for_one


def _enabled(candidates: Iterable[EndpointHealth]) -> list[failover.Candidate]:
    return [candidate.as_candidate for candidate in candidates if candidate.endpoint.is_usable]


def _pasts(deliveries: Collection[UUID], *, using: str) -> dict[UUID, _Past]:
    found = {key: _Past() for key in deliveries}
    rows = Attempt.objects.using(using).filter(delivery_id__in=list(deliveries))
    for key, endpoint, reason in rows.values_list("delivery_id", "endpoint_id", "reason"):
        if endpoint is not None:
            found[key].tried.add(endpoint)
        found[key].gone += int(reason == GONE)
    return found

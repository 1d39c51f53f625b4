"""The ledger: record what attempts brought, and what follows for their deliveries."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Collection, Sequence, Set
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from uuid import UUID

from django.db import InterfaceError, InternalError, OperationalError, connections, transaction
from django.db.models import Case, DateTimeField, F, Value, When

from .. import signals
from ..conf import settings
from ..fields import uuid7
from ..models import Attempt, Delivery, Endpoint
from ..policies import retry
from ..policies.retry import Decision, Done, GiveUp, RetryPolicy, TryAgain
from . import health, leases, limits, masking, statements
from .attempt import Result
from .transport import Answer, NoAnswer

logger = logging.getLogger(__name__)

#: Seconds before each further try to record, where the database fails.
PAUSES = (0.1, 0.5, 2.0, 5.0)
#: What may pass: PostgreSQL says InternalError where it is read-only for now.
_FAILURES = (OperationalError, InterfaceError, InternalError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A result with what was decided, and the row that records it."""

    result: Result
    decision: Decision
    attempt: Attempt

    @property
    def delivery(self) -> Delivery:
        """The delivery that was attempted."""
        return self.result.job.delivery


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What was decided where the lease still held, and the subscriptions whose routes changed.

    ``released`` is how many deliveries are due because what ended made way, or room.
    """

    entries: Sequence[Entry]
    changed: Set[UUID]
    released: int = 0


def record(
    results: Sequence[Result],
    *,
    now: datetime,
    using: str,
    sleep: Callable[[float], None] = time.sleep,
) -> Recorded:
    """Record results in one short transaction and return what was decided.

    A result whose lease has ended is recorded as late and changes nothing. A database that fails is
    asked again for a while, because a result that is not recorded is a request that is repeated.
    A result that cannot be recorded keeps none of the others from it: its delivery waits for the
    end of its lease, and says so.
    """
    try:
        secrets = _Secrets()
        entries = [_entry(result, secrets, now=now) for result in results]
        current, weighing, released = _persist(entries, now=now, using=using, sleep=sleep)
    except _FAILURES:
        raise
    except Exception:  # One bad row must not stop its neighbours.
        if connections[using].in_atomic_block:
            raise
        return _record_each(results, now=now, using=using, sleep=sleep)
    for entry in entries:
        _announce(entry, is_current=entry.delivery.pk in current, now=now)
    kept = [entry for entry in entries if entry.delivery.pk in current]
    for endpoint, reason in weighing.disabled.items():
        signals.endpoint_disabled.send_robust(sender=Endpoint, endpoint=endpoint, reason=reason)
    return Recorded(entries=kept, changed=weighing.changed, released=released)


def _record_each(
    results: Sequence[Result], *, now: datetime, using: str, sleep: Callable[[float], None]
) -> Recorded:
    """Record results by themselves after they could not be recorded together."""
    if len(results) == 1:
        delivery = results[0].job.delivery
        logger.exception("What an attempt of delivery %s brought is refused.", delivery.pk)
        leases.set_aside([delivery], using=using)
        return Recorded(entries=[], changed=frozenset())
    alone = [record([result], now=now, using=using, sleep=sleep) for result in results]
    return Recorded(
        entries=[entry for one in alone for entry in one.entries],
        changed=frozenset().union(*(one.changed for one in alone)),
        released=sum(one.released for one in alone),
    )


def _persist(
    entries: Sequence[Entry], *, now: datetime, using: str, sleep: Callable[[float], None]
) -> tuple[Set[UUID], health.Weighing, int]:
    """Store entries in one transaction; ask a database that fails again for a while."""
    # All being well, one statement finds the leases held and ends the deliveries.
    is_hopeful = all(isinstance(entry.decision, Done) for entry in entries) and len(
        {entry.delivery.pk for entry in entries}
    ) == len(entries)
    pauses = iter(PAUSES if not connections[using].in_atomic_block else ())
    while True:
        try:
            with transaction.atomic(using=using):
                current, weighing, released = _store(entries, is_hopeful, now=now, using=using)
                released += _pass_on(entries, current, now=now, using=using)
            return current, weighing, released
        except _LeaseEnded:
            is_hopeful = False
        except _FAILURES as error:
            pause = next(pauses, None)
            if pause is None:
                raise
            logger.warning("Recording %d attempts failed, trying again: %s", len(entries), error)
            connections[using].close()
            sleep(pause)


class _LeaseEnded(Exception):
    """Not every lease is held any more; what was written on the way is rolled back."""


class _Secrets(dict[Endpoint, list[str]]):
    """What answers may repeat of each endpoint's secrets, worked out where there is an answer."""

    def __missing__(self, endpoint: Endpoint) -> list[str]:
        self[endpoint] = found = masking.secrets_of(endpoint)
        return found


def _entry(result: Result, secrets: _Secrets, *, now: datetime) -> Entry:
    job, response = result.job, result.response
    attempt = Attempt(
        id=uuid7(),
        delivery=job.delivery,
        endpoint_id=job.endpoint.pk,
        endpoint_host=job.endpoint.host,
        number=job.number,
        started_at=result.started_at,
        duration_ms=round(result.duration * 1000),
        outcome=result.outcome.verdict.value,
        reason=result.outcome.reason,
    )
    _fill(attempt, response, secrets=secrets[job.endpoint])
    return Entry(result=result, decision=_decide(result, now=now), attempt=attempt)


def _decide(result: Result, *, now: datetime) -> Decision:
    job = result.job
    decide = partial(
        retry.decide,
        result.outcome,
        attempts=job.number,
        recorded_at=job.delivery.event.created_at,
        now=now,
        random=random.random(),  # nosec B311  # jitter is no secret
        doors=job.doors,
    )
    try:
        return decide(policy=job.policy)
    except (ArithmeticError, ValueError):
        # Numbers that nothing can be reckoned with must neither repeat a request nor lose a result.
        logger.exception("The retry policy of subscription %s is unusable.", job.subscription.pk)
        return decide(policy=RetryPolicy())


def _fill(attempt: Attempt, response: Answer | NoAnswer, *, secrets: list[str]) -> None:
    """Write what the receiver answered, bounded, and without what it repeats of our secrets."""

    def shown(text: str) -> str:
        return _shown(masking.mask(text, secrets))[:500]

    if isinstance(response, NoAnswer):
        attempt.detail = shown(response.detail)
        return
    # Masked before it is cut, since a cut might leave half a secret.
    body = masking.mask(response.body.decode("utf-8", "surrogateescape"), secrets)
    excerpt = body.encode("utf-8", "surrogateescape")[: settings.WEBHOOKS_RESPONSE_EXCERPT_BYTES]
    attempt.status_code = response.status
    attempt.response_body = _shown(excerpt.decode("utf-8", "replace"))
    attempt.response_headers = {
        name[:100]: shown(value) for name, value in list(response.headers.items())[:50]
    }
    if attempt.reason == "redirect":
        location = response.headers.get("location", "")
        attempt.detail = shown(f"Redirects are not followed; it names {location}")


def _store(
    entries: Sequence[Entry], is_hopeful: bool, *, now: datetime, using: str
) -> tuple[Set[UUID], health.Weighing, int]:
    """Write attempts, moves and evidence.

    Return the deliveries whose lease still held, what the evidence brought, and how many others
    were released. Who is hopeful locks nothing first; raise _LeaseEnded where that was too much.
    """
    weighing = health.begin([entry.result for entry in entries], now=now, using=using)
    jobs = [entry.result.job for entry in entries]
    flows = limits.lock(jobs, using=using)
    keys = {entry.delivery.pk for entry in entries}
    if is_hopeful:
        leases = {entry.delivery.lease_token for entry in entries}
        if _end(keys, Delivery.Status.SUCCEEDED, leases=leases, now=now, using=using) < len(keys):
            raise _LeaseEnded
        held: Set[UUID] = keys
        current: Set[UUID] = keys
    else:
        held, current = _lock(entries, using=using)
    for entry in entries:
        entry.attempt.is_late = entry.delivery.pk not in current
        if entry.attempt.endpoint_id not in weighing.endpoints:
            entry.attempt.endpoint_id = None
    # A delivery that was deleted meanwhile takes its attempts with it.
    kept = [entry.attempt for entry in entries if entry.delivery.pk in held]
    if kept:
        statements.insert_all(kept, using=using)
    if not is_hopeful:
        _move([entry for entry in entries if entry.delivery.pk in current], now=now, using=using)
    weighing.finish()
    return current, weighing, limits.make_room(flows, jobs, now=now, using=using)


def _lock(entries: Sequence[Entry], *, using: str) -> tuple[Set[UUID], Set[UUID]]:
    """Lock the deliveries; return those that exist, and those whose lease still holds."""
    rows = Delivery.objects.using(using)
    held = dict(
        rows.filter(pk__in=[entry.delivery.pk for entry in entries])
        .select_for_update()
        .order_by("pk")
        .values_list("pk", "lease_token")
    )
    current = {
        entry.delivery.pk
        for entry in entries
        if entry.delivery.lease_token is not None
        and held.get(entry.delivery.pk) == entry.delivery.lease_token
    }
    return held.keys(), current


def _end(
    keys: Collection[UUID],
    status: str,
    reason: str = "",
    *,
    now: datetime,
    using: str,
    leases: Collection[UUID | None] | None = None,
) -> int:
    """End deliveries, those of the leases alone where any are given; return how many."""
    rows = Delivery.objects.using(using).filter(pk__in=keys)
    if leases is not None:
        rows = rows.filter(lease_token__in=leases)
    return rows.update(
        status=status,
        reason=reason,
        due_at=None,
        lease_token=None,
        finished_at=now,
        attempts_made=F("attempts_made") + 1,
    )


def _move(entries: Sequence[Entry], *, now: datetime, using: str) -> None:
    """Move the deliveries on, in one statement for each kind of decision."""
    rows = Delivery.objects.using(using)
    over: dict[tuple[str, str], list[UUID]] = {}
    again: list[tuple[UUID, TryAgain]] = []
    for entry in entries:
        match entry.decision:
            case Done():
                over.setdefault((Delivery.Status.SUCCEEDED, ""), []).append(entry.delivery.pk)
            case GiveUp(reason=reason):
                over.setdefault((Delivery.Status.GIVEN_UP, reason), []).append(entry.delivery.pk)
            case decision:
                again.append((entry.delivery.pk, decision))
    for (status, reason), keys in over.items():
        _end(keys, status, reason, now=now, using=using)
    if again:
        rows.filter(pk__in=[key for key, _ in again]).update(
            due_at=Case(
                *(When(pk=key, then=Value(decision.at)) for key, decision in again),
                output_field=DateTimeField(),
            ),
            reason=Case(*(When(pk=key, then=Value(one.reason)) for key, one in again)),
            priority=Delivery.Priority.AGAIN,
            lease_token=None,
            attempts_made=F("attempts_made") + 1,
        )


def _pass_on(entries: Sequence[Entry], current: Set[UUID], *, now: datetime, using: str) -> int:
    """Give their turn to what waited behind deliveries that made way; return how many those are."""
    deliveries = [entry.delivery for entry in entries if entry.delivery.pk in current]
    ordered = [delivery.pk for delivery in deliveries if delivery.ordering_key]
    rows = Delivery.objects.using(using)
    return rows.filter(pk__in=ordered).pass_on(now=now) if ordered else 0


def _announce(entry: Entry, *, is_current: bool, now: datetime) -> None:
    delivery, attempt = entry.delivery, entry.attempt
    if is_current:
        _reflect(entry, now=now)
    signals.attempt_finished.send_robust(sender=Attempt, attempt=attempt, delivery=delivery)
    if not is_current:
        return
    match entry.decision:
        case Done():
            signals.delivery_succeeded.send_robust(
                sender=Delivery, delivery=delivery, attempt=attempt
            )
        case GiveUp():
            signals.delivery_given_up.send_robust(
                sender=Delivery, delivery=delivery, attempt=attempt
            )


def _reflect(entry: Entry, *, now: datetime) -> None:
    """Make the object in memory say what its row says."""
    delivery = entry.delivery
    delivery.attempts_made += 1
    delivery.lease_token = None
    delivery.reason = entry.result.outcome.reason
    match entry.decision:
        case TryAgain(at=at):
            delivery.due_at, delivery.priority = at, Delivery.Priority.AGAIN
        case GiveUp(reason=reason):
            delivery.status, delivery.reason = Delivery.Status.GIVEN_UP, reason
            delivery.due_at, delivery.finished_at = None, now
        case _:
            delivery.status = Delivery.Status.SUCCEEDED
            delivery.due_at, delivery.finished_at = None, now


def _shown(text: str) -> str:
    # PostgreSQL stores no NUL.
    return text.replace("\x00", "�")

"""Fan-out: a worker makes the deliveries of events, one for each subscription that hears them.

    emit ── event (waiting) ──► fan-out ──┬─► deliveries: due, or held
                                          ├─► nobody listens: deleted, or kept as unheard
                                          └─► it raises: failed, told, and passed over

One fan-out at a time, under a lock that is waited for and held for milliseconds: what is committed
before a worker is woken is seen by that worker or by the one before it. Events go in the order of
their ids, and the ids of deliveries follow those of their events, so that an order of sending is
the order of the events whichever workers made the deliveries.

A batch is one transaction, in which deliveries are inserted and their events, or the cursor of a
large event, move on: a worker that is killed leaves nothing half done, and the unique constraint
of deliveries would refuse to make one twice. A worker that has room leases deliveries as they are
inserted, which saves an idle system a transaction before the request.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import groupby, takewhile
from operator import attrgetter
from uuid import UUID

from django.db import (
    InterfaceError,
    InternalError,
    NotSupportedError,
    OperationalError,
    ProgrammingError,
    transaction,
)

from ... import catalog, signals, times
from ...commits import after_commit
from ...fields import uuid7_beside
from ...models import Delivery, Event
from ...models.figures.heartbeat import Heartbeat
from ...models.notification import Notification
from ...models.owner import OwnerKey
from ...policies import ordering
from ...policies.ordering import Ordering
from ...policies.reasons import Reason
from .. import recording
from ..database import carried_on, compiled_sql, conflicts
from ..recording import Draft
from ..wire import loops, tracing
from . import listeners
from .listeners import Listener

logger = logging.getLogger("django_webhooks.sending")

#: Events that one batch looks at.
MAX_EVENTS = 200
#: Deliveries that one batch makes, but for an event that alone has a few more.
MAX_DELIVERIES = 500
#: Faults of no event: a database that does not answer, or whose tables are another version's for
#: the moment of a deployment, and a process without memory. What waits goes on waiting.
_FAULTS_OF_NO_EVENT = (
    InterfaceError,
    InternalError,
    MemoryError,
    NotSupportedError,
    OperationalError,
    ProgrammingError,
)
#: The name of the row that is locked.
LOCK = "fan_out"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The lease that the first deliveries of a batch are inserted with: at most ``limit``."""

    token: UUID
    until: datetime
    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What one fan-out did: events it looked at, deliveries that are due, whether more may wait.

    ``leased`` are the deliveries that were leased at once; they are not among those that are due.
    """

    events: int = 0
    due: Sequence[UUID] = ()
    leased: Sequence[UUID] = ()
    is_more: bool = False


def make(*, using: str, claim: Claim | None = None, is_told: bool = False) -> Batch:
    """Make the deliveries of the oldest events that wait, in one bounded transaction.

    ``claim`` leases those that are due and wait for no turn. ``is_told`` expects that there are
    events, and does not ask first.

    An event whose fan-out raises is set aside as failed, and does not hold up the others. Raise
    OperationalError or InterfaceError where the database does not answer, and what else is the
    fault of no event, such as ProgrammingError where its tables are of another version.
    """
    waiting = Event.objects.using(using).waiting()
    if not (is_told or waiting.exists()):
        return Batch()
    try:
        return conflicts.again(partial(_make, MAX_EVENTS, claim, using=using), using=using)
    except _FAULTS_OF_NO_EVENT:
        raise
    except Exception:
        # One event of the batch is poison: the first one is made alone, and so on.
        return conflicts.again(partial(_make_alone, using=using), using=using)


def make_all(*, using: str, max_seconds: float | None = None) -> int:
    """Fan out all that waits, for ``max_seconds`` at the most; return how many events that were."""
    ends = None if max_seconds is None else time.monotonic() + max_seconds
    done, batch = 0, Batch(is_more=True)
    while batch.is_more and (ends is None or time.monotonic() < ends):
        batch = make(using=using)
        done += batch.events
    return done


def record_at_once(draft: Draft, *, not_to: Collection[UUID] = (), using: str) -> Event | None:
    """Write an event with its deliveries, but for those subscriptions; None where nobody listens.

    For events of this app itself, which are few and whose audience is chosen at their moment.
    """
    if recording.is_capturing():
        return recording.record([draft], using=using)[0]
    catalog.check(draft.event_type)
    owner = OwnerKey.of(draft.owner)
    found = _hearing(
        listeners.find([(draft.event_type, owner)], using=using), draft.event_type, owner
    )
    audience = [one for one in found if one.subscription_id not in not_to]
    if not audience:
        return None
    event = recording.event_of(draft, owner, now=times.now())
    event.fan_out = None
    with tracing.emitting([event]), transaction.atomic(using=using):
        event.save(force_insert=True, using=using)
        _store(_deliveries(event, audience, using=using), using=using)
        recording.announce_later([event], using=using)
    return event


@contextmanager
def _alone(using: str) -> Iterator[None]:
    """Let no other process fan out until the block's transaction is over."""
    with transaction.atomic(using=using):
        Heartbeat.objects.using(using).lock(LOCK)
        yield


def _make(limit: int, claim: Claim | None = None, *, using: str) -> Batch:
    with _alone(using):
        return _batch(_oldest(limit, using=using), claim, limit=limit, using=using)


def _make_alone(*, using: str) -> Batch:
    with _alone(using):
        events = _oldest(1, using=using)
        try:
            with transaction.atomic(using=using):
                return _batch(events, limit=1, using=using)
        except _FAULTS_OF_NO_EVENT:
            raise
        except Exception:
            event = events[0]
            logger.exception(
                "Event %s cannot be fanned out: it is set aside, and nothing of it is sent.",
                event.message_id,
                extra={"webhooks_event": str(event.pk)},
            )
            rows = Event.objects.using(using).filter(pk=event.pk)
            rows.update(fan_out=Event.FanOut.FAILED)
            return Batch(events=1, is_more=True)


def _oldest(limit: int, *, using: str) -> list[Event]:
    waiting = Event.objects.using(using).waiting().order_by("pk")
    return list(waiting.defer("body", "idempotency_key", "trace_parent")[:limit])


def _batch(events: Sequence[Event], claim: Claim | None = None, *, limit: int, using: str) -> Batch:
    """Make deliveries of these events, in their order, as many as a batch may have."""
    if not events:
        return Batch()
    is_full = len(events) == limit
    # An event that was begun goes on behind its cursor, by itself.
    fresh = list(takewhile(lambda one: one.fan_out_cursor is None, events))
    wanted = {(one.type, one.owner_key) for one in fresh}
    found = listeners.find(wanted, using=using, limit=MAX_DELIVERIES + 1) if fresh else []
    if not fresh or len(found) > MAX_DELIVERIES:
        return _part_of(events[0], is_full=is_full or len(events) > 1, using=using)
    made: list[Delivery] = []
    audiences = {one: _hearing(found, *one) for one in wanted}
    done: list[Event] = []
    for event in fresh:
        audience = audiences[event.type, event.owner_key]
        if done and len(made) + len(audience) > MAX_DELIVERIES:
            break
        made += _deliveries(event, audience, using=using)
        done.append(event)
    heard = {one.event_id for one in made}
    leased = _lease(made, claim)
    _store(made, using=using)
    _settle([one for one in done if one.pk in heard], using=using)
    _settle_unheard([one for one in done if one.pk not in heard], using=using)
    is_more = is_full or len(done) < len(events)
    return Batch(events=len(done), due=_due(made), leased=leased, is_more=is_more)


def _part_of(event: Event, *, is_full: bool, using: str) -> Batch:
    """Make the next deliveries of an event that more hear than one batch makes."""
    owner = event.owner_key
    found = listeners.find(
        [(event.type, owner)], using=using, after=event.fan_out_cursor, limit=MAX_DELIVERIES
    )
    made = _deliveries(event, _hearing(found, event.type, owner), using=using)
    _store(made, using=using)
    if len(found) < MAX_DELIVERIES:
        _settle([event], using=using)
        return Batch(events=1, due=_due(made), is_more=is_full)
    rows = Event.objects.using(using).filter(pk=event.pk)
    rows.update(fan_out_cursor=found[-1].subscription_id)
    return Batch(due=_due(made), is_more=True)


def _hearing(found: Sequence[Listener], event_type: str, owner: OwnerKey) -> list[Listener]:
    """Return the matching listeners, one for each subscription."""
    matching = {one.subscription_id: one for one in found if one.hears(event_type, owner)}
    return list(matching.values())


def _deliveries(event: Event, audience: Sequence[Listener], *, using: str) -> list[Delivery]:
    if not audience:
        return []
    now = carried_on(using=using)()
    is_loop = event.hops > loops.MAX_HOPS
    if is_loop:
        logger.error(
            "Event %s is not sent: %d webhooks led to it, each causing the next.",
            event.message_id,
            event.hops,
            extra={"webhooks_event": str(event.pk)},
        )
    made = []
    for one in audience:
        delivery = Delivery(
            id=uuid7_beside(event.pk),
            event=event,
            subscription_id=one.subscription_id,
            created_at=event.created_at,
        )
        if is_loop:
            # It stays, says so, and can be replayed.
            delivery.status, delivery.reason = Delivery.Status.GIVEN_UP, Reason.LOOP
            delivery.finished_at = now
        else:
            delivery.partition = ordering.partition(Ordering(one.ordering), event.ordering_key)
            delivery.due_at = now if one.is_flowing else None
        made.append(delivery)
    return made


def _store(made: Sequence[Delivery], *, using: str) -> None:
    if not made:
        return
    compiled_sql.insert_all(made, using=using)
    looped: dict[UUID, list[UUID]] = {}
    for one in made:
        if one.status == Delivery.Status.GIVEN_UP and one.subscription_id:
            looped.setdefault(one.subscription_id, []).append(one.pk)
    for subscription, deliveries in looped.items():
        Notification.objects.using(using).looped(subscription, deliveries)
    # Skip when no receiver is connected: has_listeners() takes a lock.
    if signals.event_fanned_out.receivers and signals.event_fanned_out.has_listeners(Event):
        after_commit(partial(_announce, made), using=using)


def _announce(made: Sequence[Delivery]) -> None:
    for event, own in groupby(made, key=attrgetter("event")):
        signals.event_fanned_out.send_robust(sender=Event, event=event, deliveries=list(own))


def _lease(made: Sequence[Delivery], claim: Claim | None) -> list[UUID]:
    """Let the claim have those that are due and wait for no turn, as many as it has room for."""
    if claim is None:
        return []
    free = [one for one in made if one.due_at is not None and not one.partition][: claim.limit]
    for one in free:
        one.lease_token, one.due_at = claim.token, claim.until
    return [one.pk for one in free]


def _due(made: Sequence[Delivery]) -> list[UUID]:
    return [one.pk for one in made if one.due_at is not None and one.lease_token is None]


def _settle(events: Sequence[Event], *, using: str) -> None:
    """Note that these have all their deliveries."""
    if events:
        rows = Event.objects.using(using).filter(pk__in=[one.pk for one in events])
        rows.update(fan_out=None, fan_out_cursor=None)


def _settle_unheard(events: Sequence[Event], *, using: str) -> None:
    """Remove those that nobody listens to, but for what is kept."""
    kept = [one.pk for one in events if catalog.keeps(one.type)]
    rows = Event.objects.using(using)
    if kept:
        rows.filter(pk__in=kept).update(fan_out=Event.FanOut.UNHEARD)
    if vain := [one.pk for one in events if one.pk not in kept]:
        rows.filter(pk__in=vain)._raw_delete(using)

"""The outbox: an event is one row, written in the caller's own transaction.

A worker makes its deliveries afterwards (see ``sending.fan_out.fan_out``), so that an event costs
its caller the same whatever the number of subscriptions.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from django.db import models, transaction

from ... import catalog, signals, times
from ...commits import after_commit
from ...models import Delivery, Event, Subscription
from ...models.event import digest
from ...models.owner import OwnerKey
from ...policies import ordering
from .. import wire
from ..wire import loops, tracing
from . import hearing

IDEMPOTENCY_KEY_LENGTH = 200

_capture: contextvars.ContextVar[Callable[[Event], None] | None] = contextvars.ContextVar(
    "webhooks_capture", default=None
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """An event that is to be recorded: its type, its data, and whose it is."""

    event_type: str
    data: Any
    owner: models.Model | OwnerKey | None = None
    idempotency_key: str | None = None
    #: What is told of one thing in order, where subscriptions ask for it.
    ordering_key: str | None = None


@contextmanager
def capture(listener: Callable[[Event], None]) -> Iterator[None]:
    """Hand each event to the listener instead of recording it, whether or not anybody listens."""
    token = _capture.set(listener)
    try:
        yield
    finally:
        _capture.reset(token)


def is_capturing() -> bool:
    """Say whether events are captured rather than recorded."""
    return _capture.get() is not None


def record(given: Iterable[Draft], *, using: str) -> list[Event | None]:
    """Write the events that somebody may hear, or that are kept; all or nothing.

    Return an event or None for each draft; for an idempotency key that is known, its first event.
    Every draft is checked and serialised before anything is written. The number of queries does not
    depend on the number of drafts or of subscriptions.
    """
    given = list(given)
    for draft in given:
        catalog.check(draft.event_type)
        _check_keys(draft)
    now, listener = times.now(), _capture.get()
    wanted = [(draft.event_type, OwnerKey.of(draft.owner)) for draft in given]
    heard = set(wanted) if listener else hearing.of_owners(wanted, using=using)
    recorded = [
        event_of(draft, one[1], now=now) if one in heard else None
        for draft, one in zip(given, wanted, strict=True)
    ]
    new = [event for event in recorded if event is not None]
    if not new:
        return recorded
    if listener is not None:
        for event in new:
            listener(event)
        return recorded
    with tracing.emitting(new):
        firsts = _store(new, using=using)
    announce_later(
        [one for one in new if firsts.get(one.idempotency_digest or "", one) is one], using=using
    )
    return [event and firsts.get(event.idempotency_digest or "", event) for event in recorded]


def record_for(subscription: Subscription, draft: Draft, *, using: str) -> Delivery:
    """Write an event for one subscription alone, whatever it listens to: to test its endpoints."""
    catalog.check(draft.event_type)
    _check_keys(draft)
    now = times.now()
    event = event_of(draft, subscription.owner_key, now=now)
    event.fan_out = None
    with tracing.emitting([event]), transaction.atomic(using=using):
        event.save(force_insert=True, using=using)
        return Delivery.objects.using(using).create(
            event=event,
            subscription=subscription,
            due_at=now if subscription.flows else None,
            created_at=now,
        )


def rewrite(event: Event, *, event_type: str, data: Any, using: str) -> bool:
    """Tell a change of an event that this transaction recorded; False where it is not there.

    Only for an event that is not committed yet: what was committed may have been sent.
    """
    catalog.check(event_type)
    body = wire.serialise(event_type, data, recorded_at=event.created_at)
    rows = Event.objects.using(using).filter(pk=event.pk)
    if not rows.update(type=event_type, body=body):
        return False
    event.type, event.body = event_type, body
    return True


def forget(event: Event, *, using: str) -> None:
    """Take back an event that this transaction recorded."""
    Event.objects.using(using).filter(pk=event.pk).delete()
    event._state.adding = True


def announce_later(events: Sequence[Event], *, using: str) -> None:
    """Tell of what was recorded once it is committed, where anybody wants to be told."""
    # Skip when no receiver is connected: has_listeners() takes a lock.
    if signals.event_recorded.receivers and signals.event_recorded.has_listeners(Event):
        after_commit(partial(_announce, events), using=using)


def _announce(events: Sequence[Event]) -> None:
    for event in events:
        # An event that was taken back meanwhile has no row any more.
        if not event._state.adding:
            signals.event_recorded.send_robust(sender=Event, event=event)


def _store(events: Sequence[Event], *, using: str) -> dict[str, Event]:
    """Insert the events; return the first event of each digest there is."""
    rows, keyed = Event.objects.db_manager(using), dict[str, Event]()
    for event in events:
        if event.idempotency_digest:
            keyed.setdefault(event.idempotency_digest, event)
    if not keyed:
        rows.bulk_create(events)
        return keyed
    with transaction.atomic(using=using, savepoint=False):
        rows.bulk_create([one for one in events if not one.idempotency_digest])
        # The database decides who was first, also against a transaction that runs at the same time.
        rows.bulk_create(keyed.values(), ignore_conflicts=True)
        for first in rows.filter(idempotency_digest__in=list(keyed)):
            digest = str(first.idempotency_digest)
            keyed[digest] = keyed[digest] if keyed[digest].pk == first.pk else first
    return keyed


def _check_keys(draft: Draft) -> None:
    """Raise ValueError for an idempotency key or an ordering key that cannot be stored."""
    for name, key, longest in (
        ("idempotency_key", draft.idempotency_key, IDEMPOTENCY_KEY_LENGTH),
        ("ordering_key", draft.ordering_key, ordering.LONGEST),
    ):
        if key is None:
            continue
        if not isinstance(key, str):
            raise ValueError(f"{name} is a text, such as {f'order-{key}'!r}, not {key!r}.")
        if len(key) > longest:
            raise ValueError(f"Use an {name} of at most {longest} characters.")
        if not (key.isascii() or _is_encodable(key)) or "\x00" in key:
            raise ValueError(f"Use an {name} without NUL and halves of characters.")


def _is_encodable(text: str) -> bool:
    try:
        return bool(text.encode())
    except UnicodeEncodeError:
        return False


def event_of(draft: Draft, owner: OwnerKey, *, now: datetime) -> Event:
    """Return the event of a draft, serialised and not stored yet."""
    event = Event(
        type=draft.event_type,
        owner_type=owner.type,
        owner_id=owner.id,
        body=wire.serialise(draft.event_type, draft.data, recorded_at=now),
        ordering_key=draft.ordering_key or "",
        hops=loops.current(),
        created_at=now,
    )
    if key := draft.idempotency_key:
        event.idempotency_key = key
        event.idempotency_digest = digest(owner, draft.event_type, key)
    return event

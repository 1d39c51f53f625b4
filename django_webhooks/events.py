"""Record that something happened: ``emit``, ``emit_many``; ``handling`` a received webhook."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from django.db import models, transaction

from . import workers
from .models import Event
from .sending import outbox
from .sending.fan_out import Draft, Recorded
from .sending.hops import handling
from .sending.one_trip import Written

__all__ = ["Draft", "emit", "emit_many", "handling"]


def emit(
    event_type: str,
    data: Any,
    *,
    owner: models.Model | None = None,
    idempotency_key: str | None = None,
    ordering_key: str | None = None,
    using: str | None = None,
) -> Event | None:
    """Record an event and a delivery for each subscription that hears it, in this transaction.

    Return the event, or None where nobody listens: then nothing is written. With an
    ``idempotency_key``, unique per owner and type, a repeated call returns the first event and
    sends nothing new. Events of one ``ordering_key`` are sent one after the other to subscriptions
    that ask for it. Raise UnknownEventType, PayloadError or PayloadTooLarge before anything is
    written.
    The broker is told after commit, in the background; nothing is lost where it cannot be reached.
    """
    draft = Draft(
        event_type=event_type,
        data=data,
        owner=owner,
        idempotency_key=idempotency_key,
        ordering_key=ordering_key,
    )
    return emit_many([draft], using=using)[0]


def emit_many(drafts: Iterable[Draft], *, using: str | None = None) -> list[Event | None]:
    """Record many events, all or none, in a constant number of queries; see :func:`emit`."""
    return [one.event for one in record(drafts, using=using or outbox.database())]


def record(drafts: Iterable[Draft], *, using: str) -> Sequence[Recorded | Written]:
    """Do as :func:`emit_many`, and return what makes the events where somebody wants them."""
    recorded = outbox.record(drafts, using=using)
    ids = [str(key) for one in recorded for key in one.due]
    if ids:
        transaction.on_commit(partial(workers.wake, ids), using=using)
    return recorded

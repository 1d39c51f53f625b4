"""Record that something happened: ``emit``, ``emit_many``; ``handling`` a received webhook."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

from django.db import models

from . import wakeups
from .commits import after_commit
from .models import Event
from .sending import database, recording
from .sending.recording import Draft
from .sending.wire.loops import handling

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
    """Record an event in this transaction; a worker makes a delivery for each who hears it.

    Return the event, or None where nobody listens and its type is not kept: then nothing is
    written. A subscription that is committed before hears it, whichever process committed it. With
    an ``idempotency_key``, unique per owner and type, a repeated call returns the first event and
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
    using = using or database.alias()
    recorded = recording.record(drafts, using=using)
    if not recording.is_capturing() and (events := [one for one in recorded if one is not None]):
        after_commit(partial(wakeups.wake_for_events, events), using=using)
    return recorded

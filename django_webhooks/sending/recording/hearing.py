"""Hearing: whether an event is to be written, because somebody may listen or it is kept.

The answer is exact: a subscription that is committed before an event hears it, whichever process
committed it. A process remembers for MEMORY_SECONDS that somebody listens; when that has changed
meanwhile, an event is written in vain, and the worker that fans it out removes it.
That nobody listens is never remembered: it is asked for each time, in one query that an index
answers.

A transaction that reads from a snapshot (REPEATABLE READ, SERIALIZABLE) may not see a subscription
that is committed already; there the event is written, and the worker decides. On SQLite a
transaction that writes sees all that is committed, so that there is no doubt.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

from django.db import connections, models

from ... import catalog, namespaces, process_state
from ...models.event_type_pattern import EventTypePattern
from ...models.owner import OwnerKey
from ...policies import matching
from ..database import compiled_sql

#: Seconds for which a process remembers that somebody listens: long enough to spare a busy process
#: nearly all of these queries, short enough that few events are written in vain.
MEMORY_SECONDS = 5.0
#: Answers that are remembered at the most: names of event types may come from anywhere where
#: unknown ones are allowed, and there may be many owners.
MAX_REMEMBERED = 10_000
#: Questions of one statement: databases bound the columns of a row.
MAX_ASKED = 200

#: A namespace with an event type, alone or with an owner, and the end of the memory that it is
#: heard.
_heard_until: dict[Hashable, float] = process_state.remember({}, forget=dict.clear)
#: Isolation in which each statement sees what is committed before it.
_EACH_STATEMENT = frozenset({"read committed", "read uncommitted"})


def of_types(event_types: Iterable[str], *, using: str) -> set[str]:
    """Return those of the event types that somebody may listen to, or whose events are kept."""
    return {one for one, _ in _heard({(one, None) for one in event_types}, using=using)}


def of_owners(wanted: Iterable[tuple[str, OwnerKey]], *, using: str) -> set[tuple[str, OwnerKey]]:
    """Return those of the event types and owners that somebody may hear, or that are kept."""
    return _heard(set(wanted), using=using)


def _heard(asked: set[Any], *, using: str) -> set[Any]:
    """Return the heard ones of pairs of an event type and an owner; None for whichever owner."""
    here, now = namespaces.of(using), time.monotonic()
    heard = {
        one for one in asked if _heard_until.get((here, one), 0.0) > now or catalog.keeps(one[0])
    }
    unknown = list(asked - heard)
    for begin in range(0, len(unknown), MAX_ASKED):
        some = unknown[begin : begin + MAX_ASKED]
        found, is_certain = _ask(some, using=using)
        if len(_heard_until) >= MAX_REMEMBERED:
            _heard_until.clear()
        until = now + MEMORY_SECONDS
        _heard_until.update(((here, one), until) for one in found)
        heard.update(found if is_certain else some)
    return heard


def _ask(asked: Sequence[tuple[str, OwnerKey | None]], *, using: str) -> tuple[list[Any], bool]:
    """Return the pairs that a subscription hears, and whether none is missing among them."""
    connection = connections[using]
    is_inside = connection.in_atomic_block or not connection.get_autocommit()
    # In the same trip: the isolation of this very transaction is for the database to say.
    is_told = is_inside and connection.vendor == "postgresql"
    also = "current_setting('transaction_isolation')" if is_told else "NULL"
    questions = [
        (_anybodys, matching.candidates(event_type))
        if owner is None
        else (_theirs, [owner.type, owner.id, *matching.candidates(event_type)])
        for event_type, owner in asked
    ]
    *answers, level = compiled_sql.exist(questions, also=also, using=using)
    if connection.vendor == "mysql":
        # Django sets the level for each connection, unless a project leaves it to the server.
        level = getattr(connection, "isolation_level", None)
    is_certain = not is_inside or connection.vendor == "sqlite" or level in _EACH_STATEMENT
    return [one for one, is_heard in zip(asked, answers, strict=True) if is_heard], is_certain


def _anybodys(texts: Sequence[str]) -> models.QuerySet[Any, Any]:
    """Return the rows of these patterns."""
    return EventTypePattern.objects.order_by().filter(pattern__in=texts)


def _theirs(texts: Sequence[str]) -> models.QuerySet[Any, Any]:
    """Return the rows of patterns that an owner, or global subscriptions, listen to.

    ``texts`` are the type of the owner, its id, and the patterns.
    """
    kind, key, *patterns = texts
    its = models.Q(subscription__owner_type=kind, subscription__owner_id=key)
    return _anybodys(patterns).filter(its | models.Q(subscription__is_global=True))

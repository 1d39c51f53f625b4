"""One trip to the database for an event that is heard, on PostgreSQL.

A function in the database finds who listens and writes the event and the deliveries: half the
trips, and plans that its session keeps, behind a pooler too. Everything that is out of the ordinary
is done by the outbox itself, statement by statement, and so is all of it where the function is not
there: on other databases, and where tables are made without migrations.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import Any, overload
from uuid import UUID

from django.db import connections

from ..fields import uuid7
from ..migrations import _record
from ..models import Delivery, Event
from ..policies import matching
from . import statements

#: Listeners at the most: arrays of more are no longer what costs.
MAX_LISTENERS = 50

#: Whether a database has the function, and this user may call it.
_is_there: dict[tuple[str, str], bool] = {}

_CALL = f"SELECT subscriptions, flowing, lanes FROM {_record.NAME}"  # nosec B608  # names of ours
_ASK = "SELECT has_function_privilege(to_regprocedure(%s)::oid, 'EXECUTE')"


def is_possible(using: str) -> bool:
    """Say whether the function is there; asks each database once."""
    connection = connections[using]
    if connection.vendor != "postgresql":
        return False
    database = (using, connection.settings_dict["NAME"])
    if database not in _is_there:
        with connection.cursor() as cursor:
            cursor.execute(_ASK, [_record.SIGNATURE])
            _is_there[database] = bool(cursor.fetchone()[0])
    return _is_there[database]


class Written(Sequence[Delivery]):
    """The deliveries that were written, each made when somebody looks: mostly nobody does."""

    def __init__(
        self,
        event: Event,
        ids: Sequence[UUID],
        subscriptions: Sequence[UUID],
        flowing: Sequence[bool],
        lanes: Sequence[str],
    ) -> None:
        self._event, self._ids = event, ids
        self._subscriptions, self._flowing, self._lanes = subscriptions, flowing, lanes

    @property
    def due(self) -> list[UUID]:
        """Return the ids of those that may be sent at once."""
        return [key for key, flows in zip(self._ids, self._flowing, strict=True) if flows]

    def __len__(self) -> int:
        return len(self._ids)

    @overload
    def __getitem__(self, index: int) -> Delivery: ...
    @overload
    def __getitem__(self, index: slice) -> list[Delivery]: ...
    def __getitem__(self, index: int | slice) -> Delivery | list[Delivery]:
        return self._deliveries[index]

    @cached_property
    def _deliveries(self) -> list[Delivery]:
        event = self._event
        parts = zip(self._ids, self._subscriptions, self._flowing, self._lanes, strict=True)
        deliveries = [
            Delivery(
                id=key,
                event=event,
                subscription_id=subscription,
                ordering_key=lane,
                due_at=event.created_at if flows else None,
                created_at=event.created_at,
            )
            for key, subscription, flows, lane in parts
        ]
        for one in deliveries:
            one._state.adding, one._state.db = False, event._state.db
        return deliveries


def record(event: Event, *, listeners: int, using: str) -> Written | None:
    """Write the event and its deliveries where as many listen as is expected; return these.

    Nothing is written where nobody listens, which returns an empty sequence, or another number
    does, which returns None.
    """
    ids = [uuid7() for _ in range(listeners)]
    subscriptions, flowing, lanes = _call(event, ids, using=using)
    if subscriptions is None:
        return Written(event, (), (), (), ())
    if len(subscriptions) != listeners:
        return None
    event._state.adding, event._state.db = False, using
    return Written(event, ids, subscriptions, flowing, lanes)


def _call(event: Event, ids: Sequence[UUID], *, using: str) -> Any:
    values: tuple[Any, ...] = (
        _patterns(event.type),
        event.owner_type,
        event.owner_id,
        event.body,
        event.ordering_key,
        event.hops,
        event.trace_parent,
        # As texts: a driver takes longer to write a moment, or a list.
        event.created_at.isoformat(),
        statements.array((event.pk, *ids)),
    )
    # What is empty is a part of the text: each parameter costs more than what it says.
    given = [value for value in values if value]
    marks = ["%s" if value else "0" if value == 0 else "''" for value in values]
    with connections[using].cursor() as cursor:
        cursor.execute(f"{_CALL}({', '.join(marks)})", given)
        return cursor.fetchone()


@lru_cache(maxsize=1000)
def _patterns(event_type: str) -> str:
    """Return those that match, the event type first."""
    return "{" + ",".join(f'"{one}"' for one in matching.candidates(event_type)) + "}"

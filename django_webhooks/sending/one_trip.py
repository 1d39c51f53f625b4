"""One trip to the database for an event that is heard, on PostgreSQL.

A function in the database finds who listens and writes the event and the deliveries: half the
trips, and plans that its session keeps, behind a pooler too. Everything that is out of the ordinary
is done by the outbox itself, statement by statement, and so is all of it where the function is not
there: on other databases, and where tables are made without migrations.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, lru_cache
from uuid import UUID

from django.db import connections

from ..fields import uuid7
from ..migrations import _record
from ..models import Delivery, Event
from ..policies import matching
from . import statements
from .fan_out import EventValues

#: Listeners at the most: arrays of more are no longer what costs.
MAX_LISTENERS = 50

#: Whether a database has the function, and this user may call it.
_is_there: dict[tuple[str, str], bool] = {}

_CALL = f"SELECT {_record.NAME}"
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


class Written:
    """What was written; objects are made of it when somebody looks: mostly nobody does."""

    def __init__(
        self, values: EventValues, ids: Sequence[UUID], told: str | None, *, using: str
    ) -> None:
        self._values, self._ids, self._using = values, ids, using
        flowing, _, self._rest = (told or "").partition(" ")
        #: Whether each of the deliveries may be sent at once: "t" or "f".
        self._flowing = flowing.split(",") if told else []

    @property
    def due(self) -> list[UUID]:
        """Return the ids of the deliveries that may be sent at once."""
        return [key for key, flows in zip(self._ids, self._flowing, strict=True) if flows == "t"]

    def __len__(self) -> int:
        return len(self._flowing)

    @cached_property
    def event(self) -> Event:
        """The event as it was written."""
        event = self._values.event()
        event._state.adding, event._state.db = False, self._using
        return event

    @cached_property
    def deliveries(self) -> list[Delivery]:
        """The deliveries as they were written."""
        if not self._flowing:
            return []
        moment = self._values.created_at
        subscriptions, _, lanes = self._rest.partition(" ")
        parts = zip(
            self._ids, subscriptions.split(","), self._flowing, lanes.split(","), strict=True
        )
        deliveries = [
            Delivery(
                id=key,
                event=self.event,
                subscription_id=UUID(subscription),
                ordering_key=lane,
                due_at=moment if flows == "t" else None,
                created_at=moment,
            )
            for key, subscription, flows, lane in parts
        ]
        for one in deliveries:
            one._state.adding, one._state.db = False, self._using
        return deliveries


def record(values: EventValues, *, listeners: int, using: str) -> Written | None:
    """Write the event and its deliveries where as many listen as is expected; return these.

    Nothing is written where nobody listens, which returns what is empty, or another number does,
    which returns None.
    """
    ids = [uuid7() for _ in range(listeners)]
    told = _call(values, ids, using=using)
    written = Written(values, ids if told else (), told, using=using)
    return written if not told or len(written) == listeners else None


def _call(values: EventValues, ids: Sequence[UUID], *, using: str) -> str | None:
    # Few parameters, all texts but the body: each costs its driver time, moments and lists more.
    says = (
        values.created_at.isoformat(),
        values.owner.type,
        values.owner.id,
        values.ordering_key,
        str(values.hops),
        values.trace_parent,
    )
    with connections[using].cursor() as cursor:
        cursor.execute(
            f"{_CALL}(%s, %s, %s, %s)",
            (
                _patterns(values.type),
                statements.text_array(says),
                statements.array((values.pk, *ids)),
                values.body,
            ),
        )
        told: str | None = cursor.fetchone()[0]
        return told


@lru_cache(maxsize=1000)
def _patterns(event_type: str) -> str:
    """Return those that match, the event type first."""
    return statements.text_array(matching.candidates(event_type))

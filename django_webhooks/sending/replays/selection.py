"""Selections: which deliveries are meant, in values that can be stored and shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Exists, OuterRef, Q
from django.utils.dateparse import parse_datetime
from django.utils.timezone import get_current_timezone

from ... import times
from ...fields import uuid7_at
from ...models import Attempt, Delivery
from ...models.delivery import DeliveryQuerySet
from ...models.owner import OwnerKey
from ...policies.reasons import OF_ANSWERS, HttpReason

#: Values of ``replayed``: given up and not arrived by any replay, or arrived otherwise.
NOT_ARRIVED, ARRIVED = REPLAYED = ("no", "arrived")
#: Fields that are moments.
MOMENTS = ("since", "until", "finished_since", "finished_until")
_OVER = [one for one in Delivery.Status.values if one != Delivery.Status.WAITING]


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Deliveries that have all that is named here; what is empty selects nothing out.

    ``replayed`` is ``no`` for those given up whose event has not arrived by a replay either, and
    ``arrived`` for those given up or cancelled whose event has.
    ``since`` and ``until`` are about when the event was recorded, ``finished_since`` and
    ``finished_until`` about when the delivery was over; the moment of the end itself is excluded.
    ``owners`` are the tenants that who asks is limited to; None means all.
    """

    ids: Sequence[str] = ()
    status: str = ""
    event_type: str = ""
    subscription: str = ""
    endpoint: str = ""
    host: str = ""
    reason: str = ""
    bulk_replay: str = ""
    replayed: str = ""
    status_code: int | None = None
    since: datetime | None = None
    until: datetime | None = None
    finished_since: datetime | None = None
    finished_until: datetime | None = None
    owners: Sequence[Sequence[str]] | None = None

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Selection:
        """Return what :attr:`stored` gave. Raise ValueError for what is malformed."""
        known = {one.name for one in fields(cls)}
        if unknown := set(stored) - known:
            raise ValueError(f"A selection has no {', '.join(sorted(unknown))}.")
        values = dict(stored)
        if any("\x00" in value for value in values.values() if isinstance(value, str)):
            raise ValueError("A selection holds no NUL, which no database takes.")
        for name in MOMENTS:
            if isinstance(values.get(name), str):
                values[name] = moment(values[name])
        if values.get("replayed", "") not in ("", *REPLAYED):
            raise ValueError(f"Use one of {', '.join(REPLAYED)} for replayed.")
        for name in ("subscription", "endpoint", "bulk_replay"):
            if values.get(name):
                values[name] = str(UUID(str(values[name])))
        if values.get("status_code") is not None:
            values["status_code"] = int(values["status_code"])
        return cls(**values)

    @property
    def stored(self) -> dict[str, Any]:
        """The same in values of JSON, without what is empty."""
        values = {
            name: value for name, value in asdict(self).items() if value not in ("", None, ())
        }
        for name in MOMENTS:
            if name in values:
                values[name] = times.aware(values[name]).isoformat()
        return values

    def deliveries(self, *, using: str) -> DeliveryQuerySet:
        """Return the deliveries."""
        rows = Delivery.objects.using(using).order_by()
        if self.ids:
            rows = rows.filter(pk__in=list(self.ids))
        equal = {
            "status": self.status,
            "event__type": self.event_type,
            "subscription_id": self.subscription,
            "reason": self.reason,
            "bulk_replay_id": self.bulk_replay,
        }
        rows = rows.filter(**{name: value for name, value in equal.items() if value})
        # Ids are ordered by time, and that order has an index.
        if self.since:
            rows = rows.filter(pk__gte=uuid7_at(self.since))
        if self.until:
            rows = rows.filter(pk__lt=uuid7_at(self.until))
        if self.finished_since or self.finished_until:
            # The index of what is over begins with the status.
            rows = rows.filter(status__in=_OVER)
        if self.finished_since:
            rows = rows.filter(finished_at__gte=self.finished_since)
        if self.finished_until:
            rows = rows.filter(finished_at__lt=self.finished_until)
        if self.owners is not None:
            rows = rows.filter(owned("subscription__", self.owners))
        if self.replayed:
            is_open = self.replayed == NOT_ARRIVED
            rows = rows.unresolved() if is_open else rows.arrived_otherwise()
        return self._attempted(rows, using=using)

    def _attempted(self, rows: DeliveryQuerySet, *, using: str) -> DeliveryQuerySet:
        attempts = Attempt.objects.using(using).filter(delivery_id=OuterRef("pk")).order_by()
        if self.endpoint:
            rows = rows.filter(Exists(attempts.filter(endpoint_id=self.endpoint)))
        if self.host:
            rows = rows.filter(Exists(attempts.filter(endpoint_host=self.host)))
        if self.status_code is None:
            return rows
        if 300 <= self.status_code <= 999:
            # The reason of a delivery is that of its last attempt.
            reason = HttpReason(self.status_code)
            answered = Exists(attempts.filter(status_code=self.status_code))
            return rows.filter(Q(reason=reason) | Q(reason__in=OF_ANSWERS) & answered)
        return rows.filter(Exists(attempts.filter(status_code=self.status_code)))


def owned(path: str, owners: Sequence[Sequence[str] | OwnerKey]) -> Q:
    """Return the condition that a row belongs to one of the owners; to nobody's where none is."""
    found = Q(pk__in=[])
    for one in owners:
        kind, key = (one.type, one.id) if isinstance(one, OwnerKey) else one
        found |= Q(**{f"{path}owner_type": kind, f"{path}owner_id": key})
    return found


def moment(text: str) -> datetime:
    """Return a moment written in ISO 8601; without a zone it is in the current one.

    Raise ValueError for anything else.
    """
    found = parse_datetime(text if len(text) > 10 else f"{text}T00:00")
    if found is None:
        raise ValueError(f"{text!r} is not a moment such as 2026-01-31T12:00.")
    return times.aware(found, zone=get_current_timezone())

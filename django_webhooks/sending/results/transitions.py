"""Transitions: what the recorder writes to deliveries whose attempts have ended."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence, Set
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connections
from django.db.models import Case, F, Value, When

from ...fields import UTCDateTimeField
from ...models import Delivery
from ...policies.retry import Done, GiveUp, TryAgain
from ..attempts import AttemptRecord
from ..database import compiled_sql


def lock(entries: Sequence[AttemptRecord], *, using: str) -> tuple[Set[UUID], Set[UUID]]:
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


def end(
    keys: Collection[UUID],
    status: str,
    reason: str = "",
    *,
    now: datetime,
    using: str,
    leases: Collection[UUID | None] | None = None,
) -> int:
    """End deliveries, those of the leases alone where any are given; return how many."""
    if connections[using].vendor == "postgresql":
        return _end(keys, status, reason, now=now, using=using, leases=leases)
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


def _end(
    keys: Collection[UUID],
    status: str,
    reason: str,
    *,
    now: datetime,
    using: str,
    leases: Collection[UUID | None] | None,
) -> int:
    """End deliveries by a statement whose text is there: each batch of answers ends with it.

    To build it takes as long as the database does.
    """
    params: list[Any] = [str(status), reason, now, compiled_sql.array(keys)]
    if leases is not None:
        params.append(compiled_sql.array(one for one in leases if one is not None))
    with connections[using].cursor() as cursor:
        cursor.execute(_END if leases is None else _END_LEASED, params)
        return int(cursor.rowcount)


# Names of ours alone.
_END = (
    f"UPDATE {Delivery._meta.db_table} SET status = %s, reason = %s, due_at = NULL, "  # nosec B608
    "lease_token = NULL, finished_at = %s, attempts_made = attempts_made + 1 WHERE id = ANY (%s)"
)
_END_LEASED = f"{_END} AND lease_token = ANY (%s)"


def move(entries: Sequence[AttemptRecord], *, are_locked: bool, now: datetime, using: str) -> int:
    """Move the deliveries on, in one statement for each kind of decision; return how many were.

    Where they are not locked, those whose lease has ended are left alone.
    """
    rows = Delivery.objects.using(using)
    over: dict[tuple[str, str], list[AttemptRecord]] = {}
    again: list[AttemptRecord] = []
    elsewhere: dict[UUID | None, list[UUID]] = {}
    for entry in entries:
        match entry.decision:
            case Done():
                over.setdefault((Delivery.Status.SUCCEEDED, ""), []).append(entry)
            case GiveUp(reason=reason):
                over.setdefault((Delivery.Status.GIVEN_UP, reason), []).append(entry)
            case _:
                again.append(entry)
                if entry.next_endpoint != entry.delivery.endpoint_id:
                    elsewhere.setdefault(entry.next_endpoint, []).append(entry.delivery.pk)
    moved = 0
    for (status, why), ended in over.items():
        leases = None if are_locked else _leases_of(ended)
        keys = [entry.delivery.pk for entry in ended]
        moved += end(keys, status, why, now=now, using=using, leases=leases)
    for endpoint, keys in elsewhere.items():
        rows.filter(pk__in=keys).update(endpoint=endpoint)
    if again:
        moved += _put_off(again, leases=None if are_locked else _leases_of(again), using=using)
    return moved


def _leases_of(entries: Sequence[AttemptRecord]) -> set[UUID | None]:
    return {entry.delivery.lease_token for entry in entries}


def _put_off(
    entries: Sequence[AttemptRecord], *, leases: Collection[UUID | None] | None, using: str
) -> int:
    """Let deliveries wait for their next attempts."""
    again = {one.delivery.pk: one.decision for one in entries if isinstance(one.decision, TryAgain)}
    if connections[using].vendor == "postgresql":
        return _put_off_at_once(again, leases=leases, using=using)
    column = UTCDateTimeField()
    rows = Delivery.objects.using(using).filter(pk__in=list(again))
    if leases is not None:
        rows = rows.filter(lease_token__in=leases)
    return rows.update(
        due_at=Case(
            *(When(pk=key, then=Value(one.at, output_field=column)) for key, one in again.items()),
            output_field=column,
        ),
        reason=Case(*(When(pk=key, then=Value(one.reason)) for key, one in again.items())),
        priority=Delivery.Priority.RETRY,
        lease_token=None,
        attempts_made=F("attempts_made") + 1,
    )


def _put_off_at_once(
    again: Mapping[UUID, TryAgain], *, leases: Collection[UUID | None] | None, using: str
) -> int:
    """Do so by a statement whose text is there: a case for each takes as long as all else."""
    moments = ",".join(one.at.isoformat() for one in again.values())
    params: list[Any] = [
        compiled_sql.array(again),
        f"{{{moments}}}",
        compiled_sql.text_array(one.reason for one in again.values()),
    ]
    if leases is not None:
        params.append(compiled_sql.array(one for one in leases if one is not None))
    with connections[using].cursor() as cursor:
        cursor.execute(_PUT_OFF if leases is None else _PUT_OFF_LEASED, params)
        return int(cursor.rowcount)


# Names of ours alone.
_PUT_OFF = (
    f"UPDATE {Delivery._meta.db_table} SET due_at = next.at, reason = next.why, "  # nosec B608
    f"priority = {Delivery.Priority.RETRY.value}, lease_token = NULL, "
    "attempts_made = attempts_made + 1 "
    "FROM unnest(%s::uuid[], %s::timestamptz[], %s::text[]) AS next (key, at, why) "
    "WHERE id = next.key"
)
_PUT_OFF_LEASED = f"{_PUT_OFF} AND lease_token = ANY (%s::uuid[])"


def pass_on(
    entries: Sequence[AttemptRecord], current: Set[UUID], *, now: datetime, using: str
) -> int:
    """Give their turn to what waited behind deliveries that made way; return how many those are."""
    deliveries = [entry.delivery for entry in entries if entry.delivery.pk in current]
    ordered = [delivery.pk for delivery in deliveries if delivery.partition]
    rows = Delivery.objects.using(using)
    return rows.filter(pk__in=ordered).pass_on(now=now) if ordered else 0

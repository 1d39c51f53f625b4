"""Moves: what the ledger writes to deliveries whose attempts have ended."""

from __future__ import annotations

from collections.abc import Collection, Sequence, Set
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connections
from django.db.models import Case, DateTimeField, F, Value, When

from ..models import Delivery
from ..policies.retry import Done, GiveUp, TryAgain
from . import statements
from .entries import Entry


def lock(entries: Sequence[Entry], *, using: str) -> tuple[Set[UUID], Set[UUID]]:
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
    params: list[Any] = [str(status), reason, now, statements.array(keys)]
    if leases is not None:
        params.append(statements.array(one for one in leases if one is not None))
    with connections[using].cursor() as cursor:
        cursor.execute(_END if leases is None else _END_LEASED, params)
        return int(cursor.rowcount)


# Names of ours alone.
_END = (
    f"UPDATE {Delivery._meta.db_table} SET status = %s, reason = %s, due_at = NULL, "  # nosec B608
    "lease_token = NULL, finished_at = %s, attempts_made = attempts_made + 1 WHERE id = ANY (%s)"
)
_END_LEASED = f"{_END} AND lease_token = ANY (%s)"


def move(entries: Sequence[Entry], *, now: datetime, using: str) -> None:
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
        end(keys, status, reason, now=now, using=using)
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


def pass_on(entries: Sequence[Entry], current: Set[UUID], *, now: datetime, using: str) -> int:
    """Give their turn to what waited behind deliveries that made way; return how many those are."""
    deliveries = [entry.delivery for entry in entries if entry.delivery.pk in current]
    ordered = [delivery.pk for delivery in deliveries if delivery.ordering_key]
    rows = Delivery.objects.using(using)
    return rows.filter(pk__in=ordered).pass_on(now=now) if ordered else 0

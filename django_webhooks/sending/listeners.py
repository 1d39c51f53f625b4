"""Who listens to an event: at most one query, and none while nobody can.

That nobody listens to an event type is remembered in this process for
WEBHOOKS_LISTENER_CACHE_SECONDS; a change made in this process is noticed at once, one made in
another process within that time. Who listens is never remembered.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any
from uuid import UUID

from django.db import models, router, transaction

from ..conf import settings
from ..models import EventTypePattern, Health, Subscription
from ..models.owner import OwnerKey
from ..policies import matching
from . import statements

#: Event types that are remembered at the most: names may come from anywhere where unknown ones are
#: allowed.
MAX_REMEMBERED = 10_000

_NOBODY = OwnerKey()
_silent_until: dict[tuple[str, str], float] = {}
#: Until then it is not asked whether anybody at all listens, which the query is dearer for.
_heard_until: dict[tuple[str, str], float] = {}
#: How many heard the last event of a type and an owner, and of a type and whoever had listeners: a
#: guess, which what is recorded checks.
_expected: dict[tuple[str, str, OwnerKey | None], int] = {}
_changes = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """A subscription as far as recording an event needs to know it.

    What is recorded for one that is not flowing is held: it is paused, all its endpoints fail, or
    older deliveries go first.
    """

    subscription_id: UUID
    is_flowing: bool
    owner: OwnerKey
    is_global: bool
    pattern: str
    ordering: str

    def hears(self, event_type: str, owner: OwnerKey) -> bool:
        """Say whether an event reaches it. Fails closed: never another owner's event."""
        if not matching.matches(self.pattern, event_type):
            return False
        return self.owner == owner or (self.is_global and self.owner == _NOBODY)


def anybody(event_type: str, *, using: str | None = None) -> bool:
    """Return False where this process knows that nobody listens. Asks no database."""
    until = _silent_until.get((using or _database(), event_type))
    return until is None or until <= time.monotonic()


def find(wanted: Iterable[tuple[str, OwnerKey]], *, using: str) -> list[Listener]:
    """Return the listeners of any of the event types and owners, in one query or none."""
    audible = {
        (event_type, owner) for event_type, owner in wanted if anybody(event_type, using=using)
    }
    if not audible:
        return []
    asked_at, changes = time.monotonic(), _changes
    types = {event_type for event_type, _ in audible}
    asks_for_anybody = any(_heard_until.get((using, one), 0.0) <= asked_at for one in types)
    rows = _rows(
        types, {owner for _, owner in audible}, asks_for_anybody=asks_for_anybody, using=using
    )
    listeners = sorted((_listener(row) for row in rows), key=attrgetter("subscription_id"))
    if asks_for_anybody and changes == _changes and not _may_roll_back(using):
        _remember(types, listeners, asked_at=asked_at, using=using)
    return listeners


def expect(count: int, event_type: str, owner: OwnerKey, *, using: str) -> None:
    """Remember how many listen, for the next event of this type and owner."""
    if len(_expected) > MAX_REMEMBERED:
        _expected.clear()
    _expected[using, event_type, owner] = count
    if count:
        _expected[using, event_type, None] = count


def expected(event_type: str, owner: OwnerKey, *, using: str) -> int:
    """Return how many may listen; 0 where that is not known, or it is time to ask who does."""
    if _heard_until.get((using, event_type), 0.0) <= time.monotonic():
        return 0
    guess = _expected.get((using, event_type, None), 0)
    return _expected.get((using, event_type, owner), guess)


def _listener(row: Sequence[Any]) -> Listener:
    # Databases without a type for them have keys as text and booleans as numbers.
    return Listener(
        subscription_id=row[0] if isinstance(row[0], UUID) else UUID(row[0]),
        is_flowing=row[1] == Subscription.Status.ACTIVE and bool(row[6]),
        owner=OwnerKey(row[2], row[3]),
        is_global=bool(row[4]),
        pattern=row[5],
        ordering=row[7],
    )


def _remember(
    types: Iterable[str], listeners: Sequence[Listener], *, asked_at: float, using: str
) -> None:
    """Remember which event types somebody listens to, of whatever owner, and which nobody does."""
    until = asked_at + settings.WEBHOOKS_LISTENER_CACHE_SECONDS
    for event_type in types:
        is_heard = any(matching.matches(one.pattern, event_type) for one in listeners)
        remembered = _heard_until if is_heard else _silent_until
        if len(remembered) > MAX_REMEMBERED:
            remembered.clear()
        remembered[using, event_type] = until


def forget_silence(**kwargs: Any) -> None:
    """Ask the database again; called when a subscription changes in this process."""
    _forget()
    using = kwargs.get("using")
    if using is not None and transaction.get_connection(using).in_atomic_block:
        # Another thread may have asked before this change was visible.
        transaction.on_commit(_forget, using=using)


def _forget() -> None:
    global _changes
    _changes += 1
    _silent_until.clear()
    _heard_until.clear()
    _expected.clear()


def _may_roll_back(using: str) -> bool:
    """Say whether this transaction changed who listens, so that what it sees may not last."""
    # A savepoint that is rolled back takes its hooks with it.
    hooks = transaction.get_connection(using).run_on_commit
    return any(function is _forget for _, function, _ in hooks)


def _rows(
    types: Iterable[str], owners: Iterable[OwnerKey], *, asks_for_anybody: bool, using: str
) -> Sequence[Any]:
    patterns = sorted({one for event_type in types for one in matching.candidates(event_type)})
    by_type: dict[str, list[str]] = {}
    for owner in owners:
        by_type.setdefault(owner.type, []).append(owner.id)
    # The texts that the query is made of: patterns, then each type of owner with its ids.
    lengths = (len(patterns), *(len(ids) for ids in by_type.values()))
    texts = list(patterns)
    for owner_type, owner_ids in by_type.items():
        texts += [owner_type, *owner_ids]

    def make(texts: Sequence[str]) -> models.QuerySet[Any, Any]:
        return _query(texts, lengths, asks_for_anybody=asks_for_anybody, using=using)

    return statements.select(make, texts, key=("listeners", lengths, asks_for_anybody), using=using)


def _query(
    texts: Sequence[str], lengths: Sequence[int], *, asks_for_anybody: bool, using: str
) -> models.QuerySet[Any, Any]:
    patterns, rest = texts[: lengths[0]], texts[lengths[0] :]
    rows = EventTypePattern.objects.using(using).order_by()
    concerned = models.Q(subscription__is_global=True)
    for length in lengths[1:]:
        owner_type, owner_ids, rest = rest[0], rest[1 : length + 1], rest[length + 1 :]
        concerned |= models.Q(
            subscription__owner_type=owner_type, subscription__owner_id__in=owner_ids
        )
    theirs = rows.filter(concerned, pattern__in=patterns)
    if asks_for_anybody:
        # Each part has its indexes. With one OR, all that listen to the pattern would be read.
        anybodys = rows.filter(pk__in=_witnesses(patterns))
        theirs = rows.filter(pk__in=theirs.values("pk").union(anybodys.values("pk")))
    # An endpoint that is disabled is not the active one.
    open_door = Health.objects.using(using).filter(
        subscription_id=models.OuterRef("subscription_id"),
        is_active=True,
        ramp__isnull=True,
    )
    return (
        # There is one at the most. PostgreSQL plans an EXISTS twice.
        theirs.annotate(has_open_door=models.Subquery(open_door.values("is_active"))).values_list(
            "subscription_id",
            "subscription__status",
            "subscription__owner_type",
            "subscription__owner_id",
            "subscription__is_global",
            "pattern",
            "has_open_door",
            "subscription__ordering",
        )
    )


def _witnesses(patterns: Iterable[str]) -> list[Any]:
    """Return a row of anybody's for each pattern, which tells whether nobody at all listens."""
    rows = EventTypePattern.objects.order_by()
    return [models.Subquery(rows.filter(pattern=one).values("pk")[:1]) for one in patterns]


def _database() -> str:
    return router.db_for_write(Subscription)

"""The ledger: record what attempts brought, and what follows for their deliveries."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import InterfaceError, InternalError, OperationalError, connections, transaction

from .. import signals
from ..models import Attempt, Delivery, Endpoint
from ..policies.retry import Done, GiveUp
from . import health, leases, limits, moves, statements
from .attempt import Result
from .entries import Entry, entries_of

logger = logging.getLogger(__name__)

#: Seconds before each further try to record, where the database fails.
PAUSES = (0.1, 0.5, 2.0, 5.0)
#: What may pass: PostgreSQL says InternalError where it is read-only for now.
_FAILURES = (OperationalError, InterfaceError, InternalError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What was decided where the lease still held, and the subscriptions whose routes changed.

    ``released`` is how many deliveries are due because what ended made way, or room.
    """

    entries: Sequence[Entry]
    changed: Set[UUID]
    released: int = 0


def record(
    results: Sequence[Result],
    *,
    now: datetime,
    using: str,
    sleep: Callable[[float], None] = time.sleep,
) -> Recorded:
    """Record results in one short transaction and return what was decided.

    A result whose lease has ended is recorded as late and changes nothing. A database that fails is
    asked again for a while, because a result that is not recorded is a request that is repeated.
    A result that cannot be recorded keeps none of the others from it: its delivery waits for the
    end of its lease, and says so.
    """
    try:
        made = entries_of(results, now=now)
        current, weighing, released = _persist(made, now=now, using=using, sleep=sleep)
    except _FAILURES:
        raise
    except Exception:  # One bad row must not stop its neighbours.
        if connections[using].in_atomic_block:
            raise
        return _record_each(results, now=now, using=using, sleep=sleep)
    for entry in made:
        _announce(entry, is_current=entry.delivery.pk in current, now=now)
    kept = [entry for entry in made if entry.delivery.pk in current]
    for endpoint, reason in weighing.disabled.items():
        signals.endpoint_disabled.send_robust(sender=Endpoint, endpoint=endpoint, reason=reason)
    return Recorded(entries=kept, changed=weighing.changed, released=released)


def _record_each(
    results: Sequence[Result], *, now: datetime, using: str, sleep: Callable[[float], None]
) -> Recorded:
    """Record results by themselves after they could not be recorded together."""
    if len(results) == 1:
        delivery = results[0].job.delivery
        logger.exception("What an attempt of delivery %s brought is refused.", delivery.pk)
        leases.set_aside([delivery], using=using)
        return Recorded(entries=[], changed=frozenset())
    alone = [record([result], now=now, using=using, sleep=sleep) for result in results]
    return Recorded(
        entries=[entry for one in alone for entry in one.entries],
        changed=frozenset().union(*(one.changed for one in alone)),
        released=sum(one.released for one in alone),
    )


def _persist(
    entries: Sequence[Entry], *, now: datetime, using: str, sleep: Callable[[float], None]
) -> tuple[Set[UUID], health.Weighing, int]:
    """Store entries in one transaction; ask a database that fails again for a while."""
    # All being well, one statement finds the leases held and ends the deliveries.
    is_hopeful = all(isinstance(entry.decision, Done) for entry in entries) and len(
        {entry.delivery.pk for entry in entries}
    ) == len(entries)
    pauses = iter(PAUSES if not connections[using].in_atomic_block else ())
    while True:
        try:
            with transaction.atomic(using=using):
                current, weighing, released = _store(entries, is_hopeful, now=now, using=using)
                released += moves.pass_on(entries, current, now=now, using=using)
            return current, weighing, released
        except _LeaseEnded:
            is_hopeful = False
        except _FAILURES as error:
            pause = next(pauses, None)
            if pause is None:
                raise
            logger.warning("Recording %d attempts failed, trying again: %s", len(entries), error)
            connections[using].close()
            sleep(pause)


class _LeaseEnded(Exception):
    """Not every lease is held any more; what was written on the way is rolled back."""


def _store(
    entries: Sequence[Entry], is_hopeful: bool, *, now: datetime, using: str
) -> tuple[Set[UUID], health.Weighing, int]:
    """Write attempts, moves and evidence.

    Return the deliveries whose lease still held, what the evidence brought, and how many others
    were released. Who is hopeful locks nothing first; raise _LeaseEnded where that was too much.
    """
    weighing = health.begin([entry.result for entry in entries], now=now, using=using)
    jobs = [entry.result.job for entry in entries]
    flows = limits.lock(jobs, using=using)
    keys = {entry.delivery.pk for entry in entries}
    if is_hopeful:
        tokens = {entry.delivery.lease_token for entry in entries}
        ended = moves.end(keys, Delivery.Status.SUCCEEDED, leases=tokens, now=now, using=using)
        if ended < len(keys):
            raise _LeaseEnded
        held: Set[UUID] = keys
        current: Set[UUID] = keys
    else:
        held, current = moves.lock(entries, using=using)
    for entry in entries:
        entry.attempt.is_late = entry.delivery.pk not in current
        if entry.attempt.endpoint_id not in weighing.endpoints:
            entry.attempt.endpoint_id = None
    # A delivery that was deleted meanwhile takes its attempts with it.
    kept = [entry.attempt for entry in entries if entry.delivery.pk in held]
    if kept:
        statements.insert_all(kept, using=using)
    if not is_hopeful:
        ours = [entry for entry in entries if entry.delivery.pk in current]
        moves.move(ours, now=now, using=using)
    weighing.finish()
    return current, weighing, limits.make_room(flows, jobs, now=now, using=using)


def _announce(entry: Entry, *, is_current: bool, now: datetime) -> None:
    delivery, attempt = entry.delivery, entry.attempt
    if is_current:
        entry.reflect(now=now)
    signals.attempt_finished.send_robust(sender=Attempt, attempt=attempt, delivery=delivery)
    if not is_current:
        return
    match entry.decision:
        case Done():
            signals.delivery_succeeded.send_robust(
                sender=Delivery, delivery=delivery, attempt=attempt
            )
        case GiveUp():
            signals.delivery_given_up.send_robust(
                sender=Delivery, delivery=delivery, attempt=attempt
            )

"""The recorder: record what attempts brought, and what follows for their deliveries."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import (
    IntegrityError,
    InterfaceError,
    InternalError,
    OperationalError,
    connections,
    transaction,
)

from ... import signals
from ...models import Attempt, Delivery, Endpoint
from ...models.notification import EXAMPLES, Notification
from ...policies.retry import Done, GiveUp
from .. import claims, limits
from ..attempts import AttemptRecord, Result
from ..attempts.attempt_records import records_of
from ..database import compiled_sql, conflicts
from . import health, rerouting, transitions

logger = logging.getLogger("django_webhooks.sending")

#: Seconds before each further try to record, where the database fails.
PAUSES = (0.1, 0.5, 2.0, 5.0)
#: Looks at what rows refer to, where that is deleted meanwhile.
LOOKS = 5
#: What may pass: PostgreSQL says InternalError where it is read-only for now.
FAILURES = (OperationalError, InterfaceError, InternalError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """The decisions whose lease still held, and the subscriptions whose routes changed.

    ``released`` is how many deliveries are due because what ended made way, or room.
    """

    entries: Sequence[AttemptRecord]
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
        made: Sequence[AttemptRecord] = records_of(results, now=now)
        made, current, health_update, released = _persist(made, now=now, using=using, sleep=sleep)
    except FAILURES:
        raise
    except Exception as error:  # One bad row must not stop its neighbours.
        if connections[using].in_atomic_block:
            raise
        return _record_each(results, error, now=now, using=using, sleep=sleep)
    for entry in made:
        _announce(entry, is_current=entry.delivery.pk in current, now=now)
    kept = [entry for entry in made if entry.delivery.pk in current]
    for endpoint, reason in health_update.disabled.items():
        signals.endpoint_disabled.send_robust(sender=Endpoint, endpoint=endpoint, reason=reason)
    return Recorded(entries=kept, changed=health_update.changed, released=released)


def _record_each(
    results: Sequence[Result],
    error: Exception,
    *,
    now: datetime,
    using: str,
    sleep: Callable[[float], None],
) -> Recorded:
    """Record results by themselves after an error kept them from being recorded together."""
    if len(results) == 1:
        delivery = results[0].job.delivery
        logger.error(
            "The result of an attempt of delivery %s is refused.", delivery.pk, exc_info=error
        )
        claims.set_aside([delivery], using=using)
        return Recorded(entries=[], changed=frozenset())
    alone = [record([result], now=now, using=using, sleep=sleep) for result in results]
    return Recorded(
        entries=[entry for one in alone for entry in one.entries],
        changed=frozenset().union(*(one.changed for one in alone)),
        released=sum(one.released for one in alone),
    )


def _persist(
    entries: Sequence[AttemptRecord], *, now: datetime, using: str, sleep: Callable[[float], None]
) -> tuple[Sequence[AttemptRecord], Set[UUID], health.HealthUpdate, int]:
    """Store entries in one transaction; ask a database that fails again for a while."""
    # Mostly the statements that move the deliveries on find their leases held.
    is_hopeful = len({entry.delivery.pk for entry in entries}) == len(entries)
    looks, tries = LOOKS, 0
    ends = time.monotonic() + (0 if connections[using].in_atomic_block else conflicts.PATIENCE)
    pauses = iter(PAUSES if not connections[using].in_atomic_block else ())
    while True:
        try:
            with transaction.atomic(using=using):
                stored, current, health_update, released = _store(
                    entries, is_hopeful, now=now, using=using
                )
                released += transitions.pass_on(stored, current, now=now, using=using)
                # The last rows that are locked: nobody who has them waits for others.
                ended = [entry for entry in stored if entry.delivery.pk in current]
                _note_given_up(ended, using=using)
            return stored, current, health_update, released
        except _LeaseEnded:
            is_hopeful = False
        except IntegrityError:
            # A row that is referred to was deleted meanwhile, past the models: look again.
            looks -= 1
            if not looks or connections[using].in_atomic_block:
                raise
            is_hopeful = False
        except FAILURES as error:
            if conflicts.is_conflict(error) and time.monotonic() < ends:
                # Others are at the same rows: the same is tried again, soon and at random.
                logger.info(
                    "Recording %d attempts meets others, trying again: %s", len(entries), error
                )
                sleep(conflicts.pause(tries))
                tries += 1
                continue
            pause = next(pauses, None)
            if pause is None:
                raise
            logger.warning("Recording %d attempts failed, trying again: %s", len(entries), error)
            connections[using].close()
            sleep(pause)


class _LeaseEnded(Exception):
    """Not every lease is held any more; what was written on the way is rolled back."""


def _store(
    entries: Sequence[AttemptRecord], is_hopeful: bool, *, now: datetime, using: str
) -> tuple[Sequence[AttemptRecord], Set[UUID], health.HealthUpdate, int]:
    """Write attempts, moves and evidence.

    Return the entries as they were decided in the end, the deliveries whose lease still held, what
    the evidence brought, and how many others were released. With ``is_hopeful`` nothing is locked
    first; raise _LeaseEnded where a lease was lost.
    """
    endpoints = {one.result.job.endpoint.pk for one in entries}
    is_gone = any(entry.result.outcome.endpoint_gone for entry in entries)
    there = Endpoint.objects.using(using).filter(pk__in=endpoints).keep(to_change=is_gone)
    needed = {one.result.job.subscription.pk for one in entries if rerouting.needs_health(one)}
    health_update = health.begin(
        [entry.result for entry in entries], needed=needed, now=now, using=using
    )
    entries = rerouting.reroute(entries, health_update, now=now, using=using)
    jobs = [entry.result.job for entry in entries]
    limit_states = limits.lock(jobs, using=using)
    keys = {entry.delivery.pk for entry in entries}
    if is_hopeful:
        if transitions.move(entries, are_locked=False, now=now, using=using) < len(keys):
            raise _LeaseEnded
        held: Set[UUID] = keys
        current: Set[UUID] = keys
    else:
        held, current = transitions.lock(entries, using=using)
    for entry in entries:
        entry.attempt.is_late = entry.delivery.pk not in current
        if entry.attempt.endpoint_id not in there:
            entry.attempt.endpoint_id = None
    # A delivery that was deleted meanwhile takes its attempts with it.
    kept = [entry.attempt for entry in entries if entry.delivery.pk in held]
    if kept:
        compiled_sql.insert_all(kept, using=using)
    if not is_hopeful:
        ours = [entry for entry in entries if entry.delivery.pk in current]
        transitions.move(ours, are_locked=True, now=now, using=using)
    health_update.finish()
    return (
        entries,
        current,
        health_update,
        limits.make_room(limit_states, jobs, now=now, using=using),
    )


def _note_given_up(entries: Sequence[AttemptRecord], *, using: str) -> None:
    """Let people and programs be told of what is not tried again."""
    over = [entry for entry in entries if isinstance(entry.decision, GiveUp)]
    by_subscription: dict[UUID, list[AttemptRecord]] = {}
    for entry in over:
        by_subscription.setdefault(entry.result.job.subscription.pk, []).append(entry)
    for key, own in sorted(by_subscription.items()):
        reasons = Counter(str(one.decision.reason) for one in own)  # type: ignore[union-attr]  # given up
        examples = [one.delivery.pk for one in own[:EXAMPLES]]
        Notification.objects.using(using).given_up(key, reasons, examples)


def _announce(entry: AttemptRecord, *, is_current: bool, now: datetime) -> None:
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

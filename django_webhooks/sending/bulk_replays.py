"""Bulk replays: many deliveries replayed in the background, in batches, at a bounded rate.

A batch is recorded, and the cursor moved on, in one transaction: a worker that dies in the middle
leaves the row as it was before, and the next one goes on from there.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from django.db import connections, transaction
from django.utils import timezone

from ..conf import settings
from ..exceptions import WebhooksError
from ..models import AuditEntry, BulkReplay, Delivery, Endpoint
from ..models.delivery import DeliveryQuerySet
from . import outbox
from .replay import Manner, replay
from .selection import Selection

logger = logging.getLogger(__name__)

#: Deliveries that one transaction replays at the most.
BATCH = 500


class NothingToReplay(WebhooksError, ValueError):
    """None of the selected deliveries is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What a batch brought: how many deliveries are due now, and seconds until the next batch.

    ``wait`` is None where the bulk replay is over.
    """

    due: int = 0
    wait: float | None = None


def candidates(selection: Selection, *, using: str | None = None) -> DeliveryQuerySet:
    """Return those of the selected deliveries that are over and have a subscription."""
    using = using or outbox.database()
    rows = selection.deliveries(using=using)
    return rows.filter(subscription__isnull=False).exclude(status=Delivery.Status.WAITING)


def start(
    selection: Selection,
    *,
    reason: str,
    by: str = "",
    manner: Manner | None = None,
    rate: int | None = None,
    token: UUID | None = None,
    using: str | None = None,
) -> BulkReplay:
    """Record that the selected deliveries are to be replayed, and return the row.

    The same ``token`` again returns the row that it made before: a second click replays nothing.
    Raise NothingToReplay, and ValueError where the endpoint is not one of their subscription.
    """
    using = using or outbox.database()
    manner, token = manner or Manner(), token or uuid4()
    rows = BulkReplay.objects.using(using)
    if (known := rows.filter(token=token).first()) is not None:
        return known
    found = candidates(selection, using=using)
    if manner.endpoint is not None:
        _check_endpoint(manner.endpoint, found, using=using)
    newest = found.order_by("-pk").values_list("pk", flat=True).first()
    if newest is None:
        raise NothingToReplay("None of these deliveries is over; what waits is sent by itself.")
    with transaction.atomic(using=using):
        made, is_new = rows.get_or_create(
            token=token,
            defaults={
                "by": by[:150],
                "reason": reason[:200],
                "selection": selection.stored,
                "endpoint_id": manner.endpoint,
                "has_new_message_ids": manner.has_new_message_id,
                "rate": rate or settings.WEBHOOKS_REPLAY_RATE,
                "total": found.filter(pk__lte=newest).count(),
                "until": newest,
            },
        )
        if is_new:
            AuditEntry.objects.using(using).note(
                "deliveries.replayed", made, by=by, total=made.total, selection=made.selection
            )
    return made


def go_on(key: UUID, *, now: datetime | None = None, using: str | None = None) -> Step:
    """Replay the next batch, if its moment has come; called twice it replays it once."""
    using = using or outbox.database()
    now = now or timezone.now()
    with transaction.atomic(using=using):
        rows = BulkReplay.objects.using(using)
        if connections[using].features.has_select_for_update_skip_locked:
            # Another worker has it: that one goes on.
            rows = rows.select_for_update(skip_locked=True)
        else:
            rows = rows.select_for_update()
        one = rows.filter(pk=key, status=BulkReplay.Status.RUNNING).first()
        if one is None:
            return Step()
        if one.next_at is not None and one.next_at > now:
            return Step(wait=(one.next_at - now).total_seconds())
        return _batch(one, now=now, using=using)


def stalled(*, now: datetime | None = None, using: str | None = None) -> list[UUID]:
    """Return those that nobody goes on with, although their moment has come for a while."""
    using = using or outbox.database()
    late = (now or timezone.now()) - timedelta(seconds=5)
    return list(BulkReplay.objects.using(using).due(late).values_list("pk", flat=True))


def stop(one: BulkReplay, *, by: str, using: str | None = None) -> bool:
    """Replay no more of it, and say whether it was running; what was replayed stays."""
    using = using or outbox.database()
    rows = BulkReplay.objects.using(using).filter(pk=one.pk, status=BulkReplay.Status.RUNNING)
    with transaction.atomic(using=using):
        stopped = rows.update(
            status=BulkReplay.Status.STOPPED, next_at=None, finished_at=timezone.now()
        )
        if stopped:
            AuditEntry.objects.using(using).note("deliveries.replay_stopped", one, by=by)
    return bool(stopped)


def _batch(one: BulkReplay, *, now: datetime, using: str) -> Step:
    size = min(BATCH, one.rate)
    found = candidates(Selection.of(one.selection), using=using).filter(pk__lte=one.until)
    if one.cursor is not None:
        found = found.filter(pk__gt=one.cursor)
    keys = list(found.order_by("pk").values_list("pk", flat=True)[:size])
    manner = Manner(
        endpoint=one.endpoint_id,
        has_new_message_id=one.has_new_message_ids,
        bulk_replay=one.pk,
    )
    made = replay(keys, manner=manner, using=using) if keys else []
    one.replayed += len(made)
    one.left_out += len(keys) - len(made)
    is_over = len(keys) < size
    if keys:
        one.cursor = keys[-1]
    # Its events may have come to wait again meanwhile: what is left out was not lost.
    one.next_at = None if is_over else now + timedelta(seconds=size / one.rate)
    if is_over:
        one.status, one.finished_at = BulkReplay.Status.DONE, now
        logger.info("Bulk replay %s is done: %d replayed.", one.pk, one.replayed)
    one.save(using=using)
    due = sum(delivery.due_at is not None for delivery in made)
    return Step(due=due, wait=None if is_over else size / one.rate)


def _check_endpoint(key: UUID, found: DeliveryQuerySet, *, using: str) -> None:
    endpoint = Endpoint.objects.using(using).filter(pk=key).first()
    if endpoint is None or not endpoint.is_usable:
        raise ValueError("The chosen endpoint is gone or disabled; choose another one.")
    if found.exclude(subscription_id=endpoint.subscription_id).exists():
        raise ValueError(
            "The chosen endpoint belongs to one subscription; select the deliveries of that one."
        )

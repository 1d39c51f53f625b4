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

from ... import audit_log, times
from ...conf import settings
from ...exceptions import NothingToReplay
from ...models import BulkReplay, Endpoint
from ...models.delivery import DeliveryQuerySet
from .. import database
from .selection import Selection
from .single import ReplayOptions, replay

logger = logging.getLogger("django_webhooks.sending")

#: Deliveries that one transaction replays at the most.
BATCH = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchResult:
    """The result of a batch: how many deliveries are due now, and seconds until the next batch.

    ``wait`` is None where the bulk replay is over.
    """

    due: int = 0
    wait: float | None = None


def candidates(
    selection: Selection, *, until: UUID | None = None, using: str | None = None
) -> DeliveryQuerySet:
    """Return those of the selected, up to a key, that a replay sends again, once each."""
    rows = selection.deliveries(using=using or database.alias())
    return (rows if until is None else rows.filter(pk__lte=until)).to_replay()


def start(
    selection: Selection,
    *,
    reason: str,
    by: str = "",
    replay_options: ReplayOptions | None = None,
    rate: int | None = None,
    token: UUID | None = None,
    using: str | None = None,
) -> BulkReplay:
    """Record that the selected deliveries are to be replayed, and return the row.

    The same ``token`` again returns the row that it made before: a second click replays nothing.
    Raise NothingToReplay, and ValueError where the endpoint is not one of their subscription.
    """
    using = using or database.alias()
    replay_options, token = replay_options or ReplayOptions(), token or uuid4()
    rows = BulkReplay.objects.using(using)
    if (known := rows.filter(token=token).first()) is not None:
        return known
    found = candidates(selection, using=using)
    if replay_options.endpoint is not None:
        _check_endpoint(replay_options.endpoint, found, using=using)
    newest = found.order_by("-pk").values_list("pk", flat=True).first()
    if newest is None:
        raise NothingToReplay(
            "Nothing is left to replay: what waits is sent by itself, and the rest has arrived."
        )
    with transaction.atomic(using=using):
        made, is_new = rows.get_or_create(
            token=token,
            defaults={
                "by": by[:150],
                "reason": reason[:200],
                "selection": selection.stored,
                "endpoint_id": replay_options.endpoint,
                "gives_new_message_ids": replay_options.has_new_message_id,
                "rate": rate or settings.WEBHOOKS_REPLAY_RATE_PER_SECOND,
                "total": found.filter(pk__lte=newest).count(),
                "last_id": newest,
            },
        )
        if is_new:
            audit_log.log(
                "deliveries.replayed",
                made,
                using=using,
                by=by,
                total=made.total,
                selection=made.selection,
            )
    return made


def go_on(key: UUID, *, now: datetime | None = None, using: str | None = None) -> BatchResult:
    """Replay the next batch, if its moment has come; called twice it replays it once."""
    using = using or database.alias()
    now = now or times.now()
    with transaction.atomic(using=using):
        rows = BulkReplay.objects.using(using)
        if connections[using].features.has_select_for_update_skip_locked:
            # Another worker has it: that one goes on.
            rows = rows.select_for_update(skip_locked=True)
        else:
            rows = rows.select_for_update()
        one = rows.filter(pk=key, status=BulkReplay.Status.RUNNING).first()
        if one is None:
            return BatchResult()
        if one.next_at is not None and one.next_at > now:
            return BatchResult(wait=(one.next_at - now).total_seconds())
        return _batch(one, now=now, using=using)


def stalled(*, now: datetime | None = None, using: str | None = None) -> list[UUID]:
    """Return those that nobody goes on with, although their moment has come for a while."""
    using = using or database.alias()
    late = (now or times.now()) - timedelta(seconds=5)
    return list(BulkReplay.objects.using(using).due(late).values_list("pk", flat=True))


def stop(one: BulkReplay, *, by: str, using: str | None = None) -> bool:
    """Replay no more of it, and say whether it was running; what was replayed stays."""
    using = using or database.alias()
    rows = BulkReplay.objects.using(using).filter(pk=one.pk, status=BulkReplay.Status.RUNNING)
    with transaction.atomic(using=using):
        stopped = rows.update(
            status=BulkReplay.Status.STOPPED, next_at=None, finished_at=times.now()
        )
        if stopped:
            audit_log.log("deliveries.replay_stopped", one, using=using, by=by)
    return bool(stopped)


def _batch(one: BulkReplay, *, now: datetime, using: str) -> BatchResult:
    size = min(BATCH, one.rate)
    found = candidates(Selection.of(one.selection), until=one.last_id, using=using)
    if one.cursor is not None:
        found = found.filter(pk__gt=one.cursor)
    keys = list(found.order_by("pk").values_list("pk", flat=True)[:size])
    replay_options = ReplayOptions(
        endpoint=one.endpoint_id,
        has_new_message_id=one.gives_new_message_ids,
        bulk_replay=one.pk,
    )
    made = replay(keys, replay_options=replay_options, using=using) if keys else []
    one.replayed += len(made)
    one.skipped += len(keys) - len(made)
    is_over = len(keys) < size
    if keys:
        one.cursor = keys[-1]
    # Its events may have come to wait again meanwhile: what is left out was not lost.
    one.next_at = None if is_over else now + timedelta(seconds=size / one.rate)
    if is_over:
        one.skipped = max(one.skipped, one.total - one.replayed)
        one.status, one.finished_at = BulkReplay.Status.DONE, now
        logger.info("Bulk replay %s is done: %d replayed.", one.pk, one.replayed)
    one.save(using=using)
    due = sum(delivery.due_at is not None for delivery in made)
    return BatchResult(due=due, wait=None if is_over else size / one.rate)


def _check_endpoint(key: UUID, found: DeliveryQuerySet, *, using: str) -> None:
    endpoint = Endpoint.objects.using(using).filter(pk=key).first()
    if endpoint is None or not endpoint.is_usable:
        raise ValueError("The chosen endpoint is gone or disabled; choose another one.")
    if found.exclude(subscription_id=endpoint.subscription_id).exists():
        raise ValueError(
            "The chosen endpoint belongs to one subscription; select the deliveries of that one."
        )

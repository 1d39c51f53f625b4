"""The Celery task of the inbox."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from celery import shared_task

from .. import times
from ..models.figures import heartbeat
from ..tasks import MAX_WAKE_UPS, DeliveryTask, come_back, hint, is_needless
from . import worker


@shared_task(bind=True, base=DeliveryTask, name="django_webhooks.inbox.tasks.handle")
def handle(self: DeliveryTask, message_ids: Sequence[str] = ()) -> None:
    """Handle the received messages named, and whatever else is due."""
    if is_needless(self, message_ids):
        return
    heartbeat.beat("handle")
    is_eager = self.request.is_eager
    drained = worker.drain([UUID(one) for one in message_ids], is_patient=not is_eager)
    ended_at = times.now()
    if drained.is_more_due and not is_eager:
        hint(handle)
    come_back(self, after=drained.next_in, ended_at=ended_at)


def wake_for_due(*, now: datetime) -> None:
    """Wake a worker for each message that is due, a few at the most."""
    for _ in range(worker.count_due(limit=MAX_WAKE_UPS, now=now)):
        hint(handle)

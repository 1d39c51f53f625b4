"""The Celery tasks, thin; a lost or doubled message changes timing, nothing else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from celery import Celery, Task, shared_task
from celery.app import app_or_default
from celery.exceptions import Retry
from celery.signals import beat_init
from celery.utils.time import maybe_make_aware
from django.db import InterfaceError, OperationalError
from django.utils import timezone
from kombu.exceptions import OperationalError as BrokerError

from .auditing import audit as audits
from .auditing import mailing
from .conf import settings
from .exceptions import RetryLater
from .inbox import background
from .inbox import upkeep as inbox_upkeep
from .models import audit_chain
from .sending import (
    bulk_replays,
    dispatch,
    health_round,
    hints,
    keeping,
    limits,
    notices,
    outbox,
    pulses,
    rounds,
    tallies,
    upkeep,
)
from .sending.clock import DatabaseClock

#: Messages that one sweep sends at the most, each for one worker process.
MAX_WAKE_UPS = 8


class DeliveryTask(Task):  # type: ignore[type-arg]  # Task is generic for type checkers alone
    """Let the moment of a decision be the countdown of Celery's retry."""

    def retry(self, *args: Any, **options: Any) -> Retry:
        """Come back at the moment that RetryLater names, or after Celery's own backoff."""
        exc = options.get("exc")
        if isinstance(exc, RetryLater):
            left = (exc.at - timezone.now()).total_seconds()
            # The retry policy has its own limit; Celery's counts our faults.
            options |= {"countdown": max(0.0, left), "max_retries": self.request.retries + 1}
        return super().retry(*args, **options)


@shared_task(
    bind=True,
    base=DeliveryTask,
    name="django_webhooks.tasks.deliver",
    autoretry_for=(RetryLater, OperationalError, InterfaceError, BrokerError),
    max_retries=10,
    retry_backoff=True,
    retry_backoff_max=60,
    retry_jitter=True,
    acks_late=True,
    reject_on_worker_lost=True,
    ignore_result=True,
)
def deliver(self: DeliveryTask, delivery_ids: Sequence[str] = ()) -> None:
    """Attempt the deliveries named, and whatever else is due."""
    # Who runs it eagerly waits for it.
    is_patient = not self.request.is_eager
    with _connection(self), _standing_in(self):
        if _is_needless(self, delivery_ids):
            return
        pulses.beat("deliver")
        drained = dispatch.drain([UUID(one) for one in delivery_ids], is_patient=is_patient)
        ended_at = timezone.now()
        if drained.is_more_due:
            _hint(deliver)
    _come_back(self, after=drained.next_in, ended_at=ended_at)


@shared_task(name="django_webhooks.tasks.sweep", acks_late=True, ignore_result=True)
def sweep() -> None:
    """Wake workers for what is due and was not told, or whose worker died."""
    pulses.beat("sweep")
    upkeep.release_readable()
    upkeep.release_forgotten()
    now = DatabaseClock(using=outbox.database())()
    upkeep.nudge(now=now)
    limits.nudge(now=now, using=outbox.database())
    batch = settings.WEBHOOKS_BATCH_SIZE
    # What was released just now has a later moment.
    due = upkeep.count_due(limit=batch * MAX_WAKE_UPS, now=now + timedelta(seconds=1))
    for _ in range(math.ceil(due / batch)):
        _hint(deliver)
    for key in bulk_replays.stalled(now=now):
        replay.delay(str(key))
    for _ in range(min(MAX_WAKE_UPS, background.count_due(limit=MAX_WAKE_UPS, now=now))):
        _hint(handle)
    audit_chain.try_to_extend(using=outbox.database())


@shared_task(name="django_webhooks.tasks.check_health", acks_late=True, ignore_result=True)
def check_health() -> int:
    """Probe the endpoints that are due, switch where that asks for it, and tell of it."""
    return health_round.run(hint=partial(_hint, deliver), tell=notify.delay)


@shared_task(
    name="django_webhooks.tasks.notify",
    autoretry_for=(OSError, OperationalError, InterfaceError),
    max_retries=5,
    retry_backoff=True,
    retry_jitter=True,
    acks_late=True,
    ignore_result=True,
)
def notify() -> int:
    """Tell people by mail, and other subscriptions by events, of outages."""
    return notices.tell()


@shared_task(
    bind=True,
    base=DeliveryTask,
    name="django_webhooks.tasks.handle",
    autoretry_for=(RetryLater, OperationalError, InterfaceError, BrokerError),
    max_retries=10,
    retry_backoff=True,
    retry_backoff_max=60,
    retry_jitter=True,
    acks_late=True,
    reject_on_worker_lost=True,
    ignore_result=True,
)
def handle(self: DeliveryTask, message_ids: Sequence[str] = ()) -> None:
    """Handle the received messages named, and whatever else is due."""
    with _connection(self), _standing_in(self):
        if _is_needless(self, message_ids):
            return
        pulses.beat("handle")
        drained = background.drain([UUID(one) for one in message_ids])
        ended_at = timezone.now()
        if drained.is_more_due:
            _hint(handle)
    _come_back(self, after=drained.next_in, ended_at=ended_at)


@shared_task(name="django_webhooks.tasks.prune", acks_late=True, ignore_result=True)
def prune() -> int:
    """Remove deliveries and received messages that are over for longer than their retention."""
    pulses.beat("prune")
    upkeep.cancel_orphans()
    return upkeep.prune() + inbox_upkeep.prune()


@shared_task(
    bind=True,
    base=DeliveryTask,
    name="django_webhooks.tasks.replay",
    autoretry_for=(RetryLater, OperationalError, InterfaceError, BrokerError),
    max_retries=10,
    retry_backoff=True,
    retry_jitter=True,
    acks_late=True,
    reject_on_worker_lost=True,
    ignore_result=True,
)
def replay(self: DeliveryTask, bulk_replay_id: str) -> None:
    """Record the next batch of a bulk replay, and come back for the one after it."""
    step = bulk_replays.go_on(UUID(bulk_replay_id))
    due = step.due
    while step.wait is not None and self.request.is_eager:
        # An eager task cannot come back.
        moment = timezone.now() + timedelta(seconds=step.wait)
        step = bulk_replays.go_on(UUID(bulk_replay_id), now=moment)
        due += step.due
    if due:
        _hint(deliver)
    if step.wait is not None:
        raise RetryLater(timezone.now() + timedelta(seconds=step.wait))


@shared_task(
    name="django_webhooks.tasks.audit",
    autoretry_for=(OSError, OperationalError, InterfaceError),
    max_retries=5,
    retry_backoff=True,
    retry_jitter=True,
    acks_late=True,
    ignore_result=True,
)
def audit() -> int:
    """Audit settings, rows and the audit trail, keep the report, and mail it where it is news."""
    audits.daily()
    return mailing.mail_news()


@shared_task(name="django_webhooks.tasks.tally", acks_late=True, ignore_result=True)
def tally() -> int:
    """Count what was delivered and attempted, for the overview and the statistics."""
    return tallies.count()


def project_app() -> Celery:
    """Return the project's app of Celery; asking a task for its app takes twenty times as long."""
    return app_or_default()


@beat_init.connect
def forget_the_future(sender: Any, **_: Any) -> None:
    """Have beat run at once what it believes to have run in the future: its clock was wrong."""
    for entry in sender.scheduler.schedule.values():
        if entry.task.startswith("django_webhooks."):
            now = maybe_make_aware(entry.default_now())
            if maybe_make_aware(entry.last_run_at) > now:
                entry.last_run_at = now


def _hint(task: Any) -> None:
    """Ask for a run that takes whatever is due."""
    task.apply_async(headers=hints.headers(using=outbox.database()))


def _come_back(task: DeliveryTask, *, after: float | None, ended_at: datetime) -> None:
    """Let Celery run the message again so many seconds after its run ended, where that is soon."""
    # An eager retry would not wait; a long wait would sit in a worker's memory.
    if after is None or after > settings.WEBHOOKS_CELERY_HORIZON or task.request.is_eager:
        return
    raise RetryLater(ended_at + timedelta(seconds=after))


def _is_needless(task: DeliveryTask, ids: Sequence[str]) -> bool:
    request = task.request
    if ids or request.retries or request.is_eager:
        return False
    pulse = str(task.name).rpartition(".")[2]
    return hints.is_needless(request.get(hints.HEADER), pulse, using=outbox.database())


def _standing_in(task: DeliveryTask) -> AbstractContextManager[None]:
    if task.request.is_eager:
        return nullcontext()
    # A message to notify would wait as well.
    check = partial(health_round.run, hint=partial(_hint, deliver), tell=notices.tell)
    return rounds.standing_in({"sweep": sweep, "check_health": check})


def _connection(task: DeliveryTask) -> AbstractContextManager[None]:
    # What is run eagerly is run on the connection of whoever asked for it.
    if task.request.is_eager:
        return nullcontext()
    return keeping.connection(using=outbox.database())

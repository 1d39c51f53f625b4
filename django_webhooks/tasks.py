"""The Celery tasks, thin; a lost or doubled message changes timing, nothing else."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from celery import Celery, Task, shared_task
from celery.app import app_or_default
from celery.exceptions import Retry
from celery.signals import beat_init, celeryd_after_setup
from celery.utils.time import maybe_make_aware
from django.db import InterfaceError, OperationalError
from kombu.exceptions import OperationalError as BrokerError

from . import extensions, times
from .exceptions import RetryLater
from .models.figures import heartbeat
from .sending import (
    claims,
    database,
    health_checks,
    limits,
    maintenance,
    notifications,
    replays,
    worker,
)
from .sending.database import DatabaseClock, persistent_connection
from .sending.fan_out import fan_out
from .sending.figures import rollups
from .sending.worker import hints

__all__ = ["check_health", "deliver", "notify", "prune", "replay", "roll_up", "sweep"]

#: Messages that one sweep sends at the most, each for one worker process.
MAX_WAKE_UPS = 8
#: Seconds up to which a retry waits as a message, and later ones for the sweep: waiting messages
#: take memory of a worker, and Redis delivers those again that wait for an hour.
CELERY_HORIZON_SECONDS = 600.0
#: Seconds for which one sweep fans out what workers left.
SWEEP_SECONDS = 5.0


class WebhooksTask(Task):  # type: ignore[type-arg]  # Task is generic for type checkers alone
    """Has time limits of its own, and transactions that are committed; is acknowledged at its end.

    The project's ``task_time_limit`` and ``task_soft_time_limit`` are meant for its own tasks: a
    run that is cut off has sent requests whose results nobody records. Source:
    https://docs.celeryq.dev/en/stable/reference/celery.app.task.html#celery.app.task.Task.time_limit
    """

    acks_late = True
    ignore_result = True
    #: Seconds; far beyond the time of any run (see ``checks.time_limits``).
    soft_time_limit = 3600
    time_limit = 3660
    #: Whether the next run uses the same connection to the database.
    keeps_connection = False

    @classmethod
    def on_bound(cls, app: Celery) -> None:
        """Bound the soft limit by a hard one of ``task_annotations``: Celery refuses it longer."""
        if cls.time_limit and cls.soft_time_limit:
            cls.soft_time_limit = min(cls.soft_time_limit, cls.time_limit)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run as a worker does; who calls it directly, or eagerly, has a connection of its own."""
        if self.request.called_directly or self.request.is_eager:
            return super().__call__(*args, **kwargs)
        own = (
            persistent_connection.connection
            if self.keeps_connection
            else persistent_connection.autocommitting
        )
        with own(using=database.alias()):
            return self.run(*args, **kwargs)


class MailTask(WebhooksTask):
    """Is run again, a few times, where the database or a mail server fails."""

    autoretry_for = (OSError, OperationalError, InterfaceError)
    max_retries = 5
    retry_backoff = True
    retry_jitter = True


class DeliveryTask(WebhooksTask):
    """Let the moment of a decision be the countdown of Celery's retry."""

    autoretry_for = (RetryLater, OperationalError, InterfaceError, BrokerError)
    max_retries = 10
    retry_backoff = True
    #: Seconds.
    retry_backoff_max = 60
    retry_jitter = True
    reject_on_worker_lost = True
    keeps_connection = True

    def retry(self, *args: Any, **options: Any) -> Retry:
        """Come back at the moment that RetryLater names, or after Celery's own backoff."""
        exc = options.get("exc")
        if isinstance(exc, RetryLater):
            left = (exc.at - times.now()).total_seconds()
            # The retry policy has its own limit; Celery's counts our faults.
            options |= {"countdown": max(0.0, left), "max_retries": self.request.retries + 1}
        return super().retry(*args, **options)


@shared_task(bind=True, base=DeliveryTask, name="django_webhooks.tasks.deliver")
def deliver(
    self: DeliveryTask, delivery_ids: Sequence[str] = (), event_ids: Sequence[str] = ()
) -> None:
    """Fan out events that wait, and attempt the deliveries named and whatever else is due.

    Eagerly those named alone, with those of the events named.
    """
    if is_needless(self, delivery_ids):
        return
    heartbeat.beat("deliver")
    # The caller of an eager run waits for it.
    is_patient = not self.request.is_eager
    # A wake-up is no hint and no retry: mostly somebody recorded an event.
    is_told = not (delivery_ids or self.request.retries or self.request.get(hints.HEADER))
    drained = worker.drain(
        [UUID(one) for one in delivery_ids],
        event_ids=[UUID(one) for one in event_ids],
        is_patient=is_patient,
        is_told=is_told,
    )
    ended_at = times.now()
    if drained.is_more_due and is_patient:
        hint(deliver)
    if is_patient:
        notifications.stand_in()
    come_back(self, after=drained.next_in, ended_at=ended_at)


@shared_task(base=WebhooksTask, name="django_webhooks.tasks.sweep")
def sweep() -> None:
    """Fan out what was left, and wake workers for what was not told, or whose worker died."""
    heartbeat.beat("sweep")
    # A limit of time is no fault of an event.
    with worker.held():
        fan_out.make_all(using=database.alias(), max_seconds=SWEEP_SECONDS)
    maintenance.release_readable()
    maintenance.release_forgotten()
    now = DatabaseClock(using=database.alias())()
    maintenance.nudge(now=now)
    limits.nudge(now=now, using=database.alias())
    batch = claims.BATCH_SIZE
    # Deliveries released just now have a later moment.
    due = maintenance.count_due(limit=batch * MAX_WAKE_UPS, now=now + timedelta(seconds=1))
    for _ in range(math.ceil(due / batch)):
        hint(deliver)
    for key in replays.stalled(now=now):
        replay.delay(str(key))
    for one in extensions.installed():
        one.sweep(now=now)


@shared_task(base=WebhooksTask, name="django_webhooks.tasks.check_health")
def check_health() -> int:
    """Probe the endpoints that are due, switch where that asks for it, and tell of it."""
    return health_checks.run(hint=partial(hint, deliver), tell=notify.delay)


@shared_task(base=MailTask, name="django_webhooks.tasks.notify")
def notify() -> int:
    """Tell people by mail, and other subscriptions by events, of outages."""
    return notifications.tell()


@shared_task(base=WebhooksTask, name="django_webhooks.tasks.prune")
def prune() -> int:
    """Remove deliveries and events whose retention is over, and rows of other apps."""
    heartbeat.beat("prune")
    maintenance.cancel_orphans()
    return maintenance.prune() + sum(one.prune() for one in extensions.installed())


@shared_task(bind=True, base=DeliveryTask, name="django_webhooks.tasks.replay")
def replay(self: DeliveryTask, bulk_replay_id: str) -> None:
    """Record the next batch of a bulk replay, and come back for the one after it."""
    step = replays.go_on(UUID(bulk_replay_id))
    due = step.due
    while step.wait is not None and self.request.is_eager:
        # An eager task cannot come back.
        moment = times.now() + timedelta(seconds=step.wait)
        step = replays.go_on(UUID(bulk_replay_id), now=moment)
        due += step.due
    if due:
        hint(deliver)
    if step.wait is not None:
        raise RetryLater(times.now() + timedelta(seconds=step.wait))


@shared_task(base=WebhooksTask, name="django_webhooks.tasks.roll_up")
def roll_up() -> int:
    """Count what was delivered and attempted, for the overview and the statistics."""
    return rollups.count()


def project_app() -> Celery:
    """Return the project's app of Celery; asking a task for its app takes twenty times as long."""
    return app_or_default()


def names_a_broker() -> bool:
    """Say whether somebody told the project's app which broker to send to."""
    conf = project_app().conf
    # Celery reads the last of them by itself.
    named = (conf.broker_url, conf.broker_write_url, os.environ.get("CELERY_BROKER_URL"))
    return any(named)


@beat_init.connect
def forget_the_future(sender: Any, **_: Any) -> None:
    """Have beat run at once what it believes to have run in the future: its clock was wrong."""
    for entry in sender.scheduler.schedule.values():
        if entry.task.startswith("django_webhooks."):
            now = maybe_make_aware(entry.default_now())
            if maybe_make_aware(entry.last_run_at) > now:
                entry.last_run_at = now


#: Why no worker of ours has the pool eventlet.
UNFIT_POOL = (
    "deadlines of requests do not hold there, so that a receiver that never answers holds a worker "
    "for ever."
)


def is_unfit_pool(pool: Any) -> bool:
    """Say whether a pool, by its name or its class, is one in which deadlines do not hold."""
    name = pool if isinstance(pool, str) else str(getattr(pool, "__module__", ""))
    return "eventlet" in name


@celeryd_after_setup.connect
def refuse_eventlet(instance: Any, **_: Any) -> None:
    """End a worker of the pool eventlet that consumes a queue of our tasks, with a sentence."""
    app = instance.app
    consumed = set(app.amqp.queues.consume_from)
    names = [name for name in app.tasks if name.startswith("django_webhooks.")]
    ours = {app.amqp.router.route({}, name)["queue"].name for name in names}
    if is_unfit_pool(instance.pool_cls) and (found := sorted(consumed & ours)):
        # Celery would log another exception, and start the worker.
        raise SystemExit(
            f"django_webhooks: a worker of the pool eventlet may not consume {', '.join(found)}: "
            f"{UNFIT_POOL} Start it with --pool prefork, threads, gevent or solo, or without "
            "these queues."
        )


def hint(task: Any) -> None:
    """Ask for a run that takes whatever is due."""
    task.apply_async(headers=hints.headers(using=database.alias()))


def come_back(task: DeliveryTask, *, after: float | None, ended_at: datetime) -> None:
    """Let Celery run the message again so many seconds after its run ended, where that is soon."""
    # An eager retry would not wait; a long wait would sit in a worker's memory.
    if after is None or after > CELERY_HORIZON_SECONDS or task.request.is_eager:
        return
    raise RetryLater(ended_at + timedelta(seconds=after))


def is_needless(task: DeliveryTask, ids: Sequence[str]) -> bool:
    """Return whether a message that names nothing came late, while another run goes on."""
    request = task.request
    sent = request.get(hints.HEADER)
    if sent is None or ids or request.retries or request.is_eager:
        return False
    heartbeat = str(task.name).rpartition(".")[2]
    return hints.is_needless(sent, heartbeat, using=database.alias())

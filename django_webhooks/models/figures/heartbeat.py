"""Heartbeats: when each task last ran, so that people see whether beat and workers are alive.

A task says so as seldom as tells it: once in EVERY seconds for each process.
"""

from __future__ import annotations

import logging
import time
from datetime import datetime, timedelta

from django.db import DatabaseError, models, router

from ... import namespaces, process_state, times
from ...fields import DatabaseNow, UTCDateTimeField
from ...namespaces import Namespace

logger = logging.getLogger("django_webhooks.sending")

#: Seconds within which a process says it once.
EVERY = 5.0
#: What is waited for longer than this says that nobody works.
LATE = timedelta(seconds=60)

_said: dict[tuple[Namespace, str], float] = process_state.remember({}, forget=dict.clear)


class HeartbeatQuerySet(models.QuerySet["Heartbeat"]):
    """Named sets of heartbeats, and how one is felt."""

    def is_delivering(self, now: datetime) -> bool:
        """Say whether a worker has looked for deliveries to send within the last minute."""
        return self.filter(pk="deliver", at__gte=now - LATE).exists()

    def beat(self, name: str, *, now: datetime | None = None) -> None:
        """Remember that the task runs now, by the database's clock where no moment is given."""
        at = now or DatabaseNow()
        if not self.filter(pk=name).update(at=at):
            self.bulk_create([Heartbeat(name=name, at=at)], ignore_conflicts=True)

    def lock(self, name: str) -> None:
        """Lock the heartbeat of that name until the transaction is over; wait where another has it.

        An update locks a row on every database, and SQLite as a whole.
        """
        while not self.filter(pk=name).update(at=DatabaseNow()):
            self.bulk_create([Heartbeat(name=name)], ignore_conflicts=True)


class Heartbeat(models.Model):
    """When a task last ran."""

    name = models.CharField(max_length=40, primary_key=True)
    at = UTCDateTimeField(default=times.now)
    #: Up to which moment the work of the task is done, where it goes on from there.
    reached = UTCDateTimeField(null=True, blank=True)

    objects = HeartbeatQuerySet.as_manager()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.name}: {self.at:%Y-%m-%d %H:%M:%S}"


def beat(name: str, *, using: str | None = None) -> None:
    """Say that a task runs. Never raises: its work matters more than that it is seen."""
    now = time.monotonic()
    using = using or router.db_for_write(Heartbeat)
    key = (namespaces.of(using), name)
    if now - _said.get(key, float("-inf")) < EVERY:
        return
    _said[key] = now
    try:
        Heartbeat.objects.using(using).beat(name)
    except DatabaseError as error:
        logger.warning("The heartbeat of %s could not be recorded: %s", name, error)

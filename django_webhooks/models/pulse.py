"""Pulses: when each task last ran, so that people see whether beat and workers are alive."""

from __future__ import annotations

from datetime import datetime

from django.db import models
from django.utils import timezone

from ..fields import DatabaseNow


class PulseQuerySet(models.QuerySet["Pulse"]):
    """Named sets of pulses, and how one is felt."""

    def beat(self, name: str, *, now: datetime | None = None) -> None:
        """Remember that the task runs now, by the database's clock where no moment is given."""
        at = now or DatabaseNow()
        if not self.filter(pk=name).update(at=at):
            self.bulk_create([Pulse(name=name, at=at)], ignore_conflicts=True)


class Pulse(models.Model):
    """When a task last ran."""

    name = models.CharField(max_length=40, primary_key=True)
    at = models.DateTimeField(default=timezone.now)
    #: Up to which moment the work of the task is done, where it goes on from there.
    reached = models.DateTimeField(null=True, blank=True)

    objects = PulseQuerySet.as_manager()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.name}: {self.at:%Y-%m-%d %H:%M:%S}"

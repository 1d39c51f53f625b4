"""What the benchmarks save: one table nobody hooks, one somebody listens to, one nobody does."""

from __future__ import annotations

from django.db import models


class Row(models.Model):
    """A row whose event has 1 KiB."""

    number = models.IntegerField(default=0)
    text = models.TextField(default="x" * 940)

    class Meta:
        abstract = True


class Note(Row):
    """Nothing is told of it."""


class Order(Row):
    """Its changes are told, and a subscription listens."""


class Parcel(Row):
    """Its changes are told, and nobody listens."""

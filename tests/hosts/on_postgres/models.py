"""Fields that PostgreSQL alone has."""

from __future__ import annotations

from django.contrib.postgres import fields
from django.db import models


class Ranged(models.Model):
    """One of each; all may be empty."""

    decimals = fields.ArrayField(models.DecimalField(max_digits=8, decimal_places=2), null=True)
    nested = fields.ArrayField(fields.ArrayField(models.IntegerField()), null=True)
    moments = fields.ArrayField(models.DateTimeField(), null=True)
    uuids = fields.ArrayField(models.UUIDField(), null=True)
    integers = fields.IntegerRangeField(null=True)
    bigs = fields.BigIntegerRangeField(null=True)
    numbers = fields.DecimalRangeField(null=True)
    dates = fields.DateRangeField(null=True)
    times = fields.DateTimeRangeField(null=True)
    count = models.IntegerField(default=0)

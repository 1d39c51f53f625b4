"""Roll-ups: how many deliveries and attempts there were in a period, with what result, how long.

Charts and figures are made of them: reading a month costs the same whether there were a thousand
attempts or a million. They can be counted anew from the rows that they count.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from uuid import UUID

from django.db import models
from django.utils.translation import gettext_lazy as _

from ...fields import UTCDateTimeField

#: Stands for all subscriptions together, where a roll-up is read without looking at each.
EVERYBODY = UUID(int=0)


class Rollup(models.Model):
    """The number in one period of one kind, with one result and reason."""

    class Kind(models.TextChoices):
        """The kind of rows that were counted."""

        # Deliveries that were over in the period; the duration is from the record to the end.
        DELIVERY = "delivery", _("Deliveries")
        # Attempts that were recorded in the period; the duration is that of the request.
        ATTEMPT = "attempt", _("Attempts")

    minutes = models.PositiveSmallIntegerField()
    period_start = UTCDateTimeField()
    subscription = models.UUIDField(default=EVERYBODY)
    kind = models.CharField(max_length=10, choices=Kind.choices)
    result = models.CharField(max_length=10)
    reason = models.CharField(max_length=40, blank=True)
    count = models.PositiveIntegerField()
    #: How many fell into each class of duration; see :mod:`django_webhooks.policies.durations`.
    durations = models.JSONField(default=dict)

    class Meta:
        verbose_name = _("roll-up")
        verbose_name_plural = _("roll-ups")
        default_permissions = ()
        constraints = [
            models.UniqueConstraint(
                fields=["minutes", "subscription", "period_start", "kind", "result", "reason"],
                name="webhooks_rollup_once",
            )
        ]

    def __str__(self) -> str:
        return f"{self.period_start:%Y-%m-%d %H:%M} {self.kind} {self.result}: {self.count}"


def merge(durations: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Return the classes of several roll-ups as one."""
    merged: dict[str, int] = {}
    for one in durations:
        for key, count in one.items():
            merged[key] = merged.get(key, 0) + count
    return merged

"""Patterns of event types: what a subscription listens to."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from ..validators import validate_pattern
from .subscription import Subscription


class EventTypePattern(models.Model):
    """One pattern of event types that a subscription listens to: a name, ``order.*`` or ``*``."""

    subscription = models.ForeignKey(
        Subscription, on_delete=models.CASCADE, related_name="patterns"
    )
    pattern = models.CharField(
        _("event type"), max_length=100, validators=[validate_pattern], db_index=True
    )

    class Meta:
        verbose_name = _("event type")
        verbose_name_plural = _("event types")
        ordering = ["pattern"]
        constraints = [
            models.UniqueConstraint(
                fields=["subscription", "pattern"], name="webhooks_pattern_once"
            )
        ]

    def __str__(self) -> str:
        return self.pattern

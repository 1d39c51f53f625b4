"""Rejections: how many requests were refused, by view, reason, network and hour.

Counts, not requests: who sends garbage fills no table.
"""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from ...fields import UTCDateTimeField


class Rejection(models.Model):
    """How often requests from one network were refused for one reason in one hour."""

    period = UTCDateTimeField(_("hour"), help_text=_("When the hour began."))
    source = models.CharField(_("refused by"), max_length=200)
    reason = models.CharField(_("reason"), max_length=20)
    network = models.CharField(
        _("network"), max_length=50, blank=True, help_text=_("Empty for all the others.")
    )
    count = models.PositiveBigIntegerField(_("count"), default=0)
    last_at = UTCDateTimeField(_("last"))

    class Meta:
        db_table = "django_webhooks_inbox_rejection"
        verbose_name = _("rejected requests")
        verbose_name_plural = _("rejected requests")
        ordering = ["-period", "-count"]
        constraints = [
            models.UniqueConstraint(
                fields=["period", "source", "reason", "network"], name="webhooks_rejection_once"
            )
        ]

    def __str__(self) -> str:
        return f"{self.count} × {self.reason} {self.network}".strip()

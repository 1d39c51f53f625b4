"""Attempts: each HTTP request of a delivery, and what came of it; append-only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import models
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from .. import times
from ..fields import UTCDateTimeField, UUID7Field
from ..policies.outcome import Verdict
from .delivery import Delivery
from .endpoint import Endpoint

if TYPE_CHECKING:
    from uuid import UUID


class Attempt(models.Model):
    """One HTTP request of a delivery to one endpoint."""

    class Outcome(models.TextChoices):
        """The verdict of an attempt."""

        # The receiver answered 2xx.
        SUCCEEDED = Verdict.SUCCEEDED.value, pgettext_lazy("attempt", "Succeeded")
        # The attempt failed in a way that may pass.
        RETRY = Verdict.RETRY.value, pgettext_lazy("attempt", "Worth repeating")
        # The attempt failed for good.
        FINAL = Verdict.FINAL.value, pgettext_lazy("attempt", "Final")

    id = UUID7Field()
    delivery = models.ForeignKey(
        Delivery, on_delete=models.CASCADE, related_name="attempts", verbose_name=_("delivery")
    )
    endpoint = models.ForeignKey(
        Endpoint,
        on_delete=models.SET_NULL,
        null=True,
        related_name="attempts",
        verbose_name=_("endpoint"),
    )
    endpoint_host = models.CharField(_("host"), max_length=300, blank=True)
    number = models.PositiveIntegerField(_("number"))
    started_at = UTCDateTimeField(_("started"), default=times.now)
    duration_ms = models.PositiveIntegerField(_("duration in ms"), default=0)
    outcome = models.CharField(_("outcome"), max_length=10, choices=Outcome.choices)
    reason = models.CharField(_("reason"), max_length=40, blank=True)
    status_code = models.PositiveSmallIntegerField(_("status code"), null=True, blank=True)
    detail = models.CharField(_("detail"), max_length=500, blank=True)
    response_headers = models.JSONField(_("answer's headers"), default=dict, blank=True)
    response_body = models.TextField(_("answer's body"), blank=True)
    is_late = models.BooleanField(
        _("late"),
        default=False,
        help_text=_("The lease had ended when it was recorded, so that it changed nothing."),
    )

    if TYPE_CHECKING:
        delivery_id: UUID
        endpoint_id: UUID | None

    class Meta:
        verbose_name = _("attempt")
        verbose_name_plural = _("attempts")
        ordering = ["-id"]
        # For the search by host; the key keeps the newest first.
        indexes = [models.Index(fields=["endpoint_host", "id"], name="webhooks_attempt_host")]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(number__gte=1), name="webhooks_attempt_number"
            )
        ]

    def __str__(self) -> str:
        return f"{self.number}: {self.status_code or self.reason}"

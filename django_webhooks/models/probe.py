"""Probes: health checks of an endpoint, the last of each kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import models
from django.utils.translation import gettext_lazy as _

from .. import times
from ..fields import UTCDateTimeField, UUID7Field
from .endpoint import Endpoint

if TYPE_CHECKING:
    from uuid import UUID


class Probe(models.Model):
    """One health check of one endpoint."""

    id = UUID7Field()
    endpoint = models.ForeignKey(
        Endpoint, on_delete=models.CASCADE, related_name="probes", db_index=False
    )
    kind = models.CharField(_("kind"), max_length=10, choices=Endpoint.ProbeKind.choices)
    started_at = UTCDateTimeField(_("started"), default=times.now)
    duration_ms = models.PositiveIntegerField(_("duration in ms"), default=0)
    succeeded = models.BooleanField(_("succeeded"))
    reason = models.CharField(_("reason"), max_length=40, blank=True)
    status_code = models.PositiveSmallIntegerField(_("status code"), null=True, blank=True)
    detail = models.CharField(_("detail"), max_length=500, blank=True)

    if TYPE_CHECKING:
        endpoint_id: UUID

    class Meta:
        verbose_name = _("probe")
        verbose_name_plural = _("probes")
        ordering = ["-id"]
        indexes = [models.Index(fields=["endpoint", "-id"], name="webhooks_probe_latest")]

    def __str__(self) -> str:
        return f"{self.get_kind_display()}: {self.reason or 'ok'}"

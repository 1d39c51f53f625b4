"""Audit reports: what each audit found, as it was then."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from ... import times
from ...fields import UTCDateTimeField, UUID7Field


class AuditReportQuerySet(models.QuerySet["AuditReport"]):
    """Named sets of reports."""

    def latest_first(self) -> AuditReportQuerySet:
        """All, the latest first."""
        return self.order_by("-pk")

    def to_be_mailed(self) -> AuditReportQuerySet:
        """Return the reports that people are to be told of, and are not yet."""
        return self.filter(is_news=True, mailed_at__isnull=True).order_by("pk")

    def trim(self, kept: int) -> int:
        """Remove all but the last ones, and return how many that were."""
        keys = list(self.latest_first().values_list("pk", flat=True)[kept:])
        return self.filter(pk__in=keys).delete()[0]


class AuditReport(models.Model):
    """The findings of one audit, with those that were accepted, and the state of the trail."""

    id = UUID7Field()
    created_at = UTCDateTimeField(_("when"), default=times.now)
    by = models.CharField(_("by"), max_length=150, blank=True)
    findings = models.JSONField(_("findings"), default=list)
    counts = models.JSONField(_("counts"), default=dict)
    chain = models.JSONField(_("audit trail"), default=dict)
    #: Whether something in it is severe, or was not in the report before.
    is_news = models.BooleanField(default=False)
    mailed_at = UTCDateTimeField(_("mailed"), null=True, blank=True)

    objects = AuditReportQuerySet.as_manager()

    class Meta:
        db_table = "django_webhooks_auditing_report"
        verbose_name = _("audit report")
        verbose_name_plural = _("audit reports")
        default_permissions = ("view",)
        permissions = [("run_audit", "Can run an audit now")]
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.created_at:%Y-%m-%d %H:%M:%S}"

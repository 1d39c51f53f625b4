"""Accepted findings: what an audit found, and somebody leaves as it is for a while."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import models, transaction
from django.utils.translation import gettext_lazy as _

from ... import audit_log, times
from ...fields import UTCDateTimeField, UUID7Field


class AcceptedFindingQuerySet(models.QuerySet["AcceptedFinding"]):
    """Named sets of accepted findings, and how one comes to be, and ends."""

    def valid(self, now: datetime) -> AcceptedFindingQuerySet:
        """Return those that hold at a moment."""
        return self.filter(until__gt=now)

    def accept(
        self,
        finding: str,
        subject: str = "",
        *,
        reason: str,
        days: float,
        by: str,
        now: datetime | None = None,
    ) -> AcceptedFinding:
        """Accept a finding about a subject, or about all, for some days; noted in the trail."""
        now = now or times.now()
        if not reason.strip() or days <= 0:
            raise ValueError("To accept a finding takes a reason and a number of days above 0.")
        until = now + timedelta(days=days)
        with transaction.atomic(using=self.db):
            made, _ = self.update_or_create(
                finding=finding,
                subject=subject,
                defaults={
                    "reason": reason[:500],
                    "by": by[:150],
                    "created_at": now,
                    "until": until,
                },
            )
            audit_log.log(
                "finding.accepted",
                made,
                using=self.db,
                by=by,
                reason=reason[:500],
                until=until.isoformat(),
            )
        return made

    def withdraw(self, finding: str, subject: str = "", *, by: str) -> bool:
        """Let a finding count again, and say whether it was accepted; noted in the trail."""
        with transaction.atomic(using=self.db):
            found = self.filter(finding=finding, subject=subject).first()
            if found is None:
                return False
            audit_log.log("finding.withdrawn", found, using=self.db, by=by)
            found.delete(using=self.db)
        return True


class AcceptedFinding(models.Model):
    """One finding that does not count until a moment; without a subject, about any."""

    id = UUID7Field()
    finding = models.CharField(_("finding"), max_length=40)
    subject = models.CharField(_("subject"), max_length=200, blank=True)
    reason = models.CharField(_("reason"), max_length=500)
    by = models.CharField(_("by"), max_length=150, blank=True)
    created_at = UTCDateTimeField(_("accepted"), default=times.now)
    until = UTCDateTimeField(_("until"))

    objects = AcceptedFindingQuerySet.as_manager()

    class Meta:
        db_table = "django_webhooks_auditing_accepted_finding"
        verbose_name = _("accepted finding")
        verbose_name_plural = _("accepted findings")
        default_permissions = ("view",)
        permissions = [("accept_finding", "Can accept findings of audits, and withdraw that")]
        ordering = ["until"]
        constraints = [
            models.UniqueConstraint(fields=["finding", "subject"], name="webhooks_accepted_once")
        ]

    def __str__(self) -> str:
        return f"{self.finding}:{self.subject}".rstrip(":")

"""The audit trail: who did what to which row, and when; append-only, without secrets."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from ..fields import uuid7


class AuditEntryQuerySet(models.QuerySet["AuditEntry"]):
    """Named sets of entries, and how one comes to be."""

    def note(
        self, action: str, subject: models.Model | None = None, *, by: str = "", **detail: Any
    ) -> AuditEntry:
        """Record what somebody did: ``endpoint.pinned``. ``detail`` holds no secret."""
        return self.create(
            action=action,
            by=by[:150],
            subject_type=subject._meta.label_lower if subject else "",
            subject_id=str(subject.pk) if subject else "",
            subject=str(subject)[:200] if subject else "",
            detail=detail,
        )


class AuditEntry(models.Model):
    """One thing that somebody did."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    created_at = models.DateTimeField(_("when"), default=timezone.now)
    by = models.CharField(_("by"), max_length=150, blank=True)
    action = models.CharField(_("action"), max_length=60, db_index=True)
    subject_type = models.CharField(_("model"), max_length=100, blank=True)
    subject_id = models.CharField(_("key"), max_length=64, blank=True)
    subject = models.CharField(_("object"), max_length=200, blank=True)
    detail = models.JSONField(_("detail"), default=dict, blank=True)

    objects = AuditEntryQuerySet.as_manager()

    class Meta:
        verbose_name = _("audit entry")
        verbose_name_plural = _("audit trail")
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["subject_type", "subject_id"], name="webhooks_audit_subject")
        ]

    def __str__(self) -> str:
        return f"{self.action} {self.subject}".strip()

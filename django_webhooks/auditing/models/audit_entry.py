"""The audit trail: who did what to which row, and when; append-only, without secrets.

An entry is written in the transaction of what it tells, sealed under a key that the database does
not have, and gets its place in the chain right after the commit (:mod:`..chain`): nobody holds
the lock of the chain while other rows are locked, and a rollback leaves neither entry nor gap.
"""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any, NoReturn

from django.db import models
from django.utils.translation import gettext_lazy as _

from ... import encryption, times
from ...audit_log import EntryDraft, current_actor
from ...exceptions import AppendOnly
from ...fields import UTCDateTimeField, UUID7Field
from ...policies.cleaning import clean

#: The table, where seals of entries belong to; see :func:`encryption.mac`.
CONTEXT = "django_webhooks_auditing_entry"
_REFUSAL = (
    "The audit trail is append-only: log what is so now with django_webhooks.audit_log.log(). "
    "To remove the whole trail, see docs/howto/audit.md."
)


class AuditEntryQuerySet(models.QuerySet["AuditEntry"]):
    """Named sets of entries; they are made by ``django_webhooks.audit_log.log``."""

    def chained(self) -> AuditEntryQuerySet:
        """Return the entries that have their place in the chain."""
        return self.filter(sequence__isnull=False)

    def pending(self) -> AuditEntryQuerySet:
        """Return the entries that wait for their place, which is a matter of moments."""
        return self.filter(sequence__isnull=True)

    def bulk_create(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse: what is noted is sealed."""
        raise AppendOnly(_REFUSAL)

    def update(self, **kwargs: Any) -> NoReturn:
        """Refuse."""
        raise AppendOnly(_REFUSAL)

    def bulk_update(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse."""
        raise AppendOnly(_REFUSAL)

    def delete(self) -> NoReturn:
        """Refuse."""
        raise AppendOnly(_REFUSAL)

    def _raw_delete(self, using: str | None) -> NoReturn:
        raise AppendOnly(_REFUSAL)


class AuditEntry(models.Model):
    """One thing that somebody did."""

    id = UUID7Field()
    #: Its place in the chain, without gaps; empty until its transaction has committed.
    sequence = models.PositiveBigIntegerField(_("number"), null=True, unique=True, editable=False)
    #: SHA-256 of the digest before it, and of what this entry says.
    digest = models.CharField(_("digest"), max_length=64, blank=True, editable=False)
    #: HMAC of what it says, and the id of the key.
    mac = models.CharField(_("seal"), max_length=100, editable=False)
    created_at = UTCDateTimeField(_("when"), default=times.now)
    by = models.CharField(_("by"), max_length=150, blank=True)
    action = models.CharField(_("action"), max_length=60, db_index=True)
    subject_type = models.CharField(_("model"), max_length=100, blank=True)
    subject_id = models.CharField(_("key"), max_length=64, blank=True)
    subject = models.CharField(_("object"), max_length=200, blank=True)
    detail = models.JSONField(_("detail"), default=dict, blank=True)

    objects = AuditEntryQuerySet.as_manager()

    class Meta:
        db_table = CONTEXT
        verbose_name = _("audit entry")
        verbose_name_plural = _("audit trail")
        ordering = ["-id"]
        base_manager_name = "objects"
        indexes = [
            models.Index(fields=["subject_type", "subject_id"], name="webhooks_audit_subject")
        ]

    def __str__(self) -> str:
        return f"{self.action} {self.subject}".strip()

    def save(self, **kwargs: Any) -> None:
        """Refuse: entries are made by ``django_webhooks.audit_log.log``."""
        raise AppendOnly(_REFUSAL)

    def delete(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse."""
        raise AppendOnly(_REFUSAL)

    @property
    def content(self) -> str:
        """Its content, as JSON that is the same on every database."""
        said = {
            "id": str(self.pk),
            "at": times.aware(self.created_at).isoformat(),
            "by": self.by,
            "action": self.action,
            "subject_type": self.subject_type,
            "subject_id": self.subject_id,
            "subject": self.subject,
            "detail": self.detail,
        }
        return json.dumps(said, sort_keys=True, separators=(",", ":"))

    @property
    def is_genuine(self) -> bool | None:
        """Whether this app wrote what it says; None where the key that tells is gone."""
        return encryption.verify_mac(self.content, self.mac, context=CONTEXT)

    def digest_after(self, before: str, *, sequence: int) -> str:
        """Return the digest that it has at a place of the chain."""
        text = f"{before}\n{sequence}\n{self.mac}\n{self.content}"
        return hashlib.sha256(text.encode()).hexdigest()


def unguarded(using: str) -> models.QuerySet[AuditEntry]:
    """Return a set of entries that refuses nothing: for their place in the chain alone."""
    return models.QuerySet(AuditEntry, using=using)


def build_entry(note: EntryDraft) -> AuditEntry:
    """Return the entry of a note, sealed and not saved."""
    subject = note.subject
    label = note.label or (str(subject) if subject is not None else "")
    made = AuditEntry(
        by=_text(note.by or current_actor())[:150],
        action=note.action,
        subject_type=subject._meta.label_lower if subject is not None else "",
        subject_id=str(subject.pk) if subject is not None else "",
        subject=_text(label)[:200],
        detail=_plain(note.detail),
    )
    made.mac = encryption.mac(made.content, context=CONTEXT)
    return made


def _plain(value: Any) -> Any:
    """Return a value that each database's JSON gives back as it was."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float) and math.isfinite(value):
        # PostgreSQL gives 1e3 back as a whole number.
        return int(value) if value.is_integer() else value
    if isinstance(value, dict):
        return {_text(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(one) for one in value]
    return _text(value)


def _text(value: Any) -> str:
    return clean(str(value))

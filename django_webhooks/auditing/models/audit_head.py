"""The head of the audit trail: how far the chain goes, under a seal made outside the database."""

from __future__ import annotations

from django.db import connections, models

from ... import encryption
from .audit_entry import AuditEntry

#: What the first entry follows.
GENESIS = "0" * 64
#: The table, where its seal belongs to.
CONTEXT = "django_webhooks_auditing_head"
_KEY = 1


class AuditHeadQuerySet(models.QuerySet["AuditHead"]):
    """The one row there is."""

    def lock(self) -> AuditHead:
        """Lock it, and make it where there is none: who extends the chain does it alone."""
        rows = self.filter(pk=_KEY)
        if not connections[self.db].features.has_select_for_update:
            # To write is to lock; to read first could fail half-way.
            rows.update(sequence=models.F("sequence"))
        found = rows.select_for_update().first()
        if found is None:
            self.bulk_create([_first(using=self.db)], ignore_conflicts=True)
            found = rows.select_for_update().get()
        return found


class AuditHead(models.Model):
    """The number and digest of the last entry in the chain, sealed."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=_KEY)
    sequence = models.PositiveBigIntegerField(default=0)
    digest = models.CharField(max_length=64, default=GENESIS)
    mac = models.CharField(max_length=100, blank=True)

    objects = AuditHeadQuerySet.as_manager()

    class Meta:
        db_table = CONTEXT
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.sequence}:{self.digest}"

    @property
    def is_genuine(self) -> bool | None:
        """Whether this app sealed it; None where the key that tells is gone."""
        return encryption.verify_mac(str(self), self.mac, context=CONTEXT)

    @property
    def key_id(self) -> str:
        """The id of the key that it is sealed with."""
        return self.mac.partition(":")[0]

    def take(self, entry: AuditEntry) -> None:
        """Give an entry the next place; save the row to keep it."""
        self.sequence += 1
        self.digest = entry.digest_after(self.digest, sequence=self.sequence)
        entry.sequence, entry.digest = self.sequence, self.digest

    def close(self) -> None:
        """Seal it as it is now."""
        self.mac = encryption.mac(str(self), context=CONTEXT)


def _first(*, using: str) -> AuditHead:
    """Return the head of a trail that begins, or one without a seal where it was removed."""
    last = AuditEntry.objects.using(using).chained().order_by("-sequence").first()
    made = AuditHead()
    if last is None:
        made.close()
    else:
        made.sequence, made.digest = last.sequence or 0, last.digest
    return made

"""The chain of the audit trail: how entries get their place in it, and whether it holds.

Each entry's digest is SHA-256 over the one before, its number, its seal and what it says. The head
holds the last one, sealed by an HMAC under a key of ``WEBHOOKS_ENCRYPTION_KEYS``: who can write the
database alone can neither make an entry up nor close a chain that was changed. Nobody can see from
the database alone that all of it was put back to an earlier state: for that each entry is logged
with its number and digest, an anchor elsewhere.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from uuid import UUID

from django.db import Error, transaction

from ..audit_log import EntryDraft
from .models import AuditEntry, AuditHead
from .models.audit_entry import build_entry, unguarded
from .models.audit_head import GENESIS

logger = logging.getLogger("django_webhooks.auditing")

#: Entries that one transaction gives a place, and that are read at once.
BATCH = 500


class Fault(StrEnum):
    """A fault of a chain."""

    # An entry does not say what was written, or somebody else wrote it.
    CHANGED = "changed"
    # A number has no entry.
    MISSING = "missing"
    # An entry is genuine, and not where it was.
    MOVED = "moved"
    # The last entries are gone.
    TRUNCATED = "truncated"
    # There are entries after the last one.
    ADDED = "added"
    # The head was not sealed with a key of ours.
    SEAL = "seal"
    # A digest that was kept elsewhere is not in it.
    ANCHOR = "anchor"


@dataclass(frozen=True, slots=True, kw_only=True)
class Break:
    """The first place at which the chain does not hold."""

    sequence: int
    fault: Fault
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """The result of a walk: how many entries hold, and the first that does not.

    ``is_sealed`` is None where the key that the head is sealed with is gone: the chain holds in
    itself, and nobody can say whether it was rewritten as a whole. ``unchecked`` counts entries by
    the id of a key that is gone; ``forged`` are those that wait for a place and are not ours.
    """

    entries: int
    head: str
    is_sealed: bool | None
    broken: Break | None = None
    unchecked: Mapping[str, int] = field(default_factory=dict)
    forged: int = 0
    waiting: int = 0

    @property
    def holds(self) -> bool:
        """Whether all of it was checked, and nothing is wrong."""
        return self.broken is None and self.is_sealed is True and not self.forged


def try_to_extend(*, using: str) -> None:
    """Give entries their place, and leave it to the sweep where that fails."""
    try:
        extend(using=using)
    except Error:
        logger.exception("Audit entries have no place in the chain yet; the sweep tries again.")


def extend(*, using: str) -> int:
    """Give the entries that wait their place in the chain; return how many those were."""
    chained, last = 0, None
    rows = AuditEntry.objects.using(using).pending()
    while (rows if last is None else rows.filter(pk__gt=last)).exists():
        made, last = _extend(last, using=using)
        chained += len(made)
        for entry in made:
            logger.info(
                "Audit entry %d:%s: %s by %s.",
                entry.sequence,
                entry.digest,
                entry,
                entry.by or "the system",
                extra={"webhooks_sequence": entry.sequence, "webhooks_digest": entry.digest},
            )
        if last is None:
            break
    return chained


def _extend(last: UUID | None, *, using: str) -> tuple[list[AuditEntry], UUID | None]:
    with transaction.atomic(using=using):
        head = AuditHead.objects.using(using).lock()
        rows = AuditEntry.objects.using(using).pending().order_by("pk")
        found = list((rows if last is None else rows.filter(pk__gt=last))[:BATCH])
        ours = [one for one in found if one.is_genuine]
        if len(ours) < len(found):
            logger.error("%d audit entries were not written by us.", len(found) - len(ours))
        if ours:
            ours = [*_broken_seal(head, using=using), *ours]
            for one in ours:
                head.take(one)
            # The one change that an entry sees.
            unguarded(using).bulk_update(ours, ["sequence", "digest"])
            head.close()
            head.save(using=using)
    return ours, found[-1].pk if found else None


def _broken_seal(head: AuditHead, *, using: str) -> list[AuditEntry]:
    """Return an entry that tells of a seal which does not hold: a new one must not hide it."""
    if head.is_genuine:
        return []
    is_gone = head.is_genuine is None
    detail = {"sequence": head.sequence, "digest": head.digest, "key": head.key_id}
    action = "audit.key_gone" if is_gone else "audit.seal_broken"
    made = build_entry(EntryDraft(action=action, by="django_webhooks", detail=detail))
    unguarded(using).bulk_create([made])
    return [made]


def verify(*, using: str, anchors: Mapping[int, str] | None = None) -> Verified:
    """Walk the chain, a batch at a time, and return what was found.

    ``anchors`` are digests by number that were kept elsewhere.
    """
    extend(using=using)
    head = AuditHead.objects.using(using).first()
    if head is None:
        with transaction.atomic(using=using):
            head = AuditHead.objects.using(using).lock()
    walk = _Walk(head=head, anchors=dict(anchors or {}))
    broken = walk.go(using=using)
    waiting, forged = _waiting(using=using)
    return Verified(
        entries=walk.entries,
        head=str(head),
        is_sealed=head.is_genuine,
        broken=broken,
        unchecked=walk.unchecked,
        forged=forged,
        waiting=waiting,
    )


@dataclass(kw_only=True)
class _Walk:
    head: AuditHead
    anchors: dict[int, str]
    entries: int = 0
    digest: str = GENESIS
    unchecked: dict[str, int] = field(default_factory=dict)

    def go(self, *, using: str) -> Break | None:
        """Walk to the head, and a step further."""
        for entry in _chained(self.head.sequence, using=using):
            broken = self._step(entry)
            if broken is not None:
                return broken
        return self._end(using=using)

    def _step(self, entry: AuditEntry) -> Break | None:
        number = self.entries + 1
        if entry.sequence != number:
            return _break(number, Fault.MISSING, "was removed, or given another number")
        is_genuine = entry.is_genuine
        if is_genuine is False:
            return _break(number, Fault.CHANGED, "was changed, or written by somebody else")
        if entry.digest_after(self.digest, sequence=number) != entry.digest:
            if is_genuine is None:
                return _break(number, Fault.CHANGED, "was changed, moved or put there")
            return _break(
                number, Fault.MOVED, "is genuine and not where it was, or its digest was changed"
            )
        if number in self.anchors and self.anchors.pop(number) != entry.digest:
            return _break(number, Fault.ANCHOR, "is not the one whose digest was kept elsewhere")
        if is_genuine is None:
            key = entry.mac.partition(":")[0]
            self.unchecked[key] = self.unchecked.get(key, 0) + 1
        self.entries, self.digest = number, entry.digest
        return None

    def _end(self, *, using: str) -> Break | None:
        number = self.entries + 1
        if self.entries < self.head.sequence:
            return _break(number, Fault.TRUNCATED, "and all that followed it are gone")
        if self.head.is_genuine is False or self.digest != self.head.digest:
            return _break(
                self.entries, Fault.SEAL, "is not what the head was sealed for: the chain was "
                "rewritten, or cut, by somebody without the key",
            )  # fmt: skip
        rows = AuditEntry.objects.using(using).chained()
        last = rows.order_by("-sequence").values_list("sequence", flat=True).first() or 0
        now = AuditHead.objects.using(using).first()
        if now is None or last > now.sequence:
            return _break(number, Fault.ADDED, "and what follows it were added past the app")
        if self.anchors:
            number = min(self.anchors)
            return _break(number, Fault.ANCHOR, "was logged once, and is not there")
        return None


def _break(sequence: int, fault: Fault, words: str) -> Break:
    return Break(sequence=sequence, fault=fault, sentence=f"Entry {sequence} {words}.")


def _chained(until: int, *, using: str) -> Iterator[AuditEntry]:
    rows = AuditEntry.objects.using(using).filter(sequence__lte=until).order_by("sequence")
    last = None
    while batch := list((rows if last is None else rows.filter(sequence__gt=last))[:BATCH]):
        yield from batch
        last = batch[-1].sequence


def _waiting(*, using: str) -> tuple[int, int]:
    """Return how many entries wait for their place, and how many of them are not ours."""
    waiting = forged = 0
    for entry in AuditEntry.objects.using(using).pending().order_by("pk").iterator(BATCH):
        waiting += 1
        forged += not entry.is_genuine
    return waiting, forged

"""What is wrong with the audit trail itself."""

from __future__ import annotations

from collections.abc import Iterator

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ...models import AuditEntry
from ...models.audit_chain import Verified
from ..finding import Scene, Severity, Told, rule


@rule(
    "webhooks.A021",
    Severity.SEVERE,
    gettext_lazy("Somebody wrote to the database past the app. Compare with a backup and with the "
                 "logged digests: docs/howto/audit.md."),
)  # fmt: skip
def broken(scene: Scene) -> Iterator[Told]:
    """Yield where the chain of the trail does not hold, and seals that did not when found."""
    found: Verified = scene.verified
    if found.broken is not None:
        yield Told(subject="trail", sentence=_("Audit trail: %s") % found.broken.sentence)
    if found.forged:
        yield Told(
            subject="trail:forged",
            sentence=_("%d entries of the audit trail were not written by the app.") % found.forged,
        )
    for entry in _noted("audit.seal_broken", scene):
        yield Told(
            subject=f"trail:{entry.sequence}",
            sentence=_("The seal of the audit trail was broken before entry %s.") % entry.sequence,
        )


@rule(
    "webhooks.A022",
    Severity.WARNING,
    gettext_lazy("Put the key back into WEBHOOKS_ENCRYPTION_KEYS, behind the first one, where you "
                 "have it; else compare with the logged digests: docs/howto/audit.md."),
)  # fmt: skip
def not_checked(scene: Scene) -> Iterator[Told]:
    """Yield what of the trail cannot be checked, because a key is gone."""
    found: Verified = scene.verified
    if found.is_sealed is None:
        yield Told(
            subject="trail:seal",
            sentence=_("The seal of the audit trail cannot be checked: its key is gone."),
        )
    for entry in _noted("audit.key_gone", scene):
        # A made-up id of a key looks the same, and could hide that the chain was cut.
        yield Told(
            subject=f"trail:{entry.sequence}",
            sentence=_("The audit trail was sealed anew with entry %s, without the key before.")
            % entry.sequence,
        )
    for key, count in found.unchecked.items():
        yield Told(
            subject=f"trail:key:{key}",
            sentence=_("%(count)d entries of the audit trail rest on the chain alone: their key "
                       "%(key)s is gone.")
            % {"count": count, "key": key},
            severity=Severity.INFO,
        )  # fmt: skip


@rule(
    "webhooks.A023",
    Severity.WARNING,
    gettext_lazy("See the log for why: the sweep gives them their place."),
)
def waiting(scene: Scene) -> Iterator[Told]:
    """Yield that entries have waited for their place in the chain."""
    found: Verified = scene.verified
    if found.waiting > found.forged:
        yield Told(
            subject="trail:waiting",
            sentence=_("%d entries of the audit trail have no place in the chain.")
            % (found.waiting - found.forged),
        )


def _noted(action: str, scene: Scene) -> Iterator[AuditEntry]:
    """Yield what the app noted of the trail itself, which stays in it until it is accepted."""
    rows = AuditEntry.objects.using(scene.using).chained().filter(action=action)
    yield from rows.order_by("sequence").iterator()

"""Audit rules about the audit trail itself."""

from __future__ import annotations

from collections.abc import Iterator

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ..chain import Verified
from ..finding import AuditContext, FindingDraft, Severity, rule
from ..models import AuditEntry


@rule(
    "webhooks.A021",
    Severity.SEVERE,
    gettext_lazy("Somebody wrote to the database past the app. Compare with a backup and with the "
                 "logged digests: docs/howto/audit.md."),
)  # fmt: skip
def broken(context: AuditContext) -> Iterator[FindingDraft]:
    """Yield where the chain of the trail does not hold, and seals that did not when found."""
    found: Verified = context.verified
    if found.broken is not None:
        yield FindingDraft.of("trail", _("Audit trail: %s") % found.broken.sentence)
    if found.forged:
        words = _("%d entries of the audit trail were not written by the app.")
        yield FindingDraft.of("trail:forged", words % found.forged)
    for entry in _noted("audit.seal_broken", context):
        words = _("The seal of the audit trail was broken before entry %s.")
        yield FindingDraft.of(f"trail:{entry.sequence}", words % entry.sequence)


@rule(
    "webhooks.A022",
    Severity.WARNING,
    gettext_lazy("Put the key back into WEBHOOKS_ENCRYPTION_KEYS, behind the first one, where you "
                 "have it; else compare with the logged digests: docs/howto/audit.md."),
)  # fmt: skip
def not_checked(context: AuditContext) -> Iterator[FindingDraft]:
    """Yield what of the trail cannot be checked, because a key is gone."""
    found: Verified = context.verified
    if found.is_sealed is None:
        words = _("The seal of the audit trail cannot be checked: its key is gone.")
        yield FindingDraft.of("trail:seal", words)
    for entry in _noted("audit.key_gone", context):
        # A made-up id of a key looks the same, and could hide that the chain was cut.
        words = _("The audit trail was sealed anew with entry %s, without the key before.")
        yield FindingDraft.of(f"trail:{entry.sequence}", words % entry.sequence)
    for key, count in found.unchecked.items():
        words = _("%(count)d entries of the audit trail rest on the chain alone: their key "
                  "%(key)s is gone.")  # fmt: skip
        yield FindingDraft.of(f"trail:key:{key}", words, Severity.INFO, count=count, key=key)


@rule(
    "webhooks.A023",
    Severity.WARNING,
    gettext_lazy("See the log for why: the sweep gives them their place."),
)
def waiting(context: AuditContext) -> Iterator[FindingDraft]:
    """Yield that entries have waited for their place in the chain."""
    found: Verified = context.verified
    if found.waiting > found.forged:
        words = _("%d entries of the audit trail have no place in the chain.")
        yield FindingDraft.of("trail:waiting", words % (found.waiting - found.forged))


def _noted(action: str, context: AuditContext) -> Iterator[AuditEntry]:
    """Yield what the app noted of the trail itself, which stays in it until it is accepted."""
    rows = AuditEntry.objects.using(context.using).chained().filter(action=action)
    yield from rows.order_by("sequence").iterator()

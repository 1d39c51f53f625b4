"""Audit rules about keys: signing keys that are old, encryption keys that should be gone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from django.db.models import Max, Min, QuerySet
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ... import encryption
from ...models import Subscription
from ...models.reencryption import keys_in_use
from ..finding import AuditContext, FindingDraft, Severity, rule

#: So old a signing key is to be rotated: whoever has copied one can sign until then.
OLD = timedelta(days=365)
#: Made so soon after its subscription, a key is its first one.
_AT_ONCE = timedelta(minutes=5)
_ROTATE = gettext_lazy("Rotate it: docs/howto/rotate-keys.md. Receivers need no downtime.")


@rule("webhooks.A002", Severity.WARNING, _ROTATE)
def old(context: AuditContext) -> Iterator[FindingDraft]:
    """Yield subscriptions that sign with a key older than OLD."""
    limit = context.now - OLD
    for one in _subscriptions(context).filter(newest__lte=limit).iterator():
        words = (
            _("The signing key of %(name)s is of %(when)s, and was never rotated.")
            if _is_first(one)
            else _("The signing key of %(name)s is of %(when)s.")
        )
        yield FindingDraft.of(one, words, name=one.name, when=one.newest)


@rule("webhooks.A003", Severity.INFO, _ROTATE)
def never_rotated(context: AuditContext) -> Iterator[FindingDraft]:
    """Yield subscriptions past half of that time that still have their first key."""
    rows = _subscriptions(context).filter(
        newest__lte=context.now - OLD / 2, newest__gt=context.now - OLD
    )
    for one in rows.iterator():
        if _is_first(one):
            words = _("The signing key of %(name)s, of %(when)s, was never rotated.")
            yield FindingDraft.of(one, words, name=one.name, when=one.newest)


@rule(
    "webhooks.A004",
    Severity.INFO,
    gettext_lazy("Ask the receiver to verify Standard Webhooks, then choose no further signature."),
)
def legacy(context: AuditContext) -> Iterator[FindingDraft]:
    """Yield subscriptions that sign in the way of another service as well."""
    rows = Subscription.objects.using(context.using).exclude(
        signature_style=Subscription.SignatureStyle.STANDARD
    )
    for one in rows.iterator():
        # GitHub's has no timestamp: what was captured once can be sent again.
        is_weak = one.signature_style == Subscription.SignatureStyle.GITHUB
        yield FindingDraft.of(
            one,
            _("%(name)s carries a further signature: %(style)s."),
            severity=Severity.WARNING if is_weak else None,
            name=one.name,
            style=one.get_signature_style_display(),
        )


@rule(
    "webhooks.A019",
    Severity.WARNING,
    gettext_lazy("Run 'manage.py webhooks_reencrypt', then remove the former key."),
)
def former_keys(context: AuditContext) -> Iterator[FindingDraft]:
    """Yield encryption keys that are not the first one, and still needed."""
    known = _known()
    for id, count in keys_in_use(using=context.using).items():
        if id in known[1:]:
            words = _("%(count)d values are encrypted with the former key %(id)s.")
            yield FindingDraft.of(f"key:{id}", words, count=count, id=id)


@rule(
    "webhooks.A020",
    Severity.SEVERE,
    gettext_lazy("Add the key to WEBHOOKS_ENCRYPTION_KEYS again, or enter the values anew."),
)
def missing_keys(context: AuditContext) -> Iterator[FindingDraft]:
    """Yield encryption keys that are needed, and not there."""
    known = _known()
    for id, count in keys_in_use(using=context.using).items():
        if id not in known:
            words = _("%(count)d values cannot be read: the key %(id)s is missing.")
            yield FindingDraft.of(f"key:{id}", words, count=count, id=id or "-")


def _subscriptions(context: AuditContext) -> QuerySet[Any]:
    rows = Subscription.objects.using(context.using)
    return rows.annotate(
        newest=Max("signing_keys__created_at"), oldest=Min("signing_keys__created_at")
    )


def _is_first(subscription: Any) -> bool:
    # Former keys are removed some time after they expire, so that one alone tells nothing.
    made, first = subscription.created_at, subscription.oldest
    return bool(first == subscription.newest and first <= made + _AT_ONCE)


def _known() -> list[str]:
    ring = encryption.keys()
    return [key.id for key in ring]

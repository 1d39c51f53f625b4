"""What is wrong with keys: signing keys that are old, encryption keys that should be gone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from django.db.models import Count, F, Max, Min, QuerySet, TextField
from django.db.models.functions import Cast, Substr
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ... import encryption
from ...conf import settings
from ...fields import encrypted_fields
from ...models import Subscription
from ...models.reencryption import MODELS
from ..finding import Scene, Severity, Told, rule
from .endpoints import when

#: Made so soon after its subscription, a key is its first one.
_AT_ONCE = timedelta(minutes=5)
_ROTATE = gettext_lazy("Rotate it: docs/howto/rotate-keys.md. Receivers need no downtime.")


@rule("webhooks.A002", Severity.WARNING, _ROTATE)
def old(scene: Scene) -> Iterator[Told]:
    """Yield subscriptions that sign with a key older than WEBHOOKS_AUDIT_KEY_DAYS."""
    limit = scene.now - timedelta(days=settings.WEBHOOKS_AUDIT_KEY_DAYS)
    for one in _subscriptions(scene).filter(newest__lte=limit).iterator():
        words = (
            _("The signing key of %(name)s is of %(when)s, and was never rotated.")
            if _is_first(one)
            else _("The signing key of %(name)s is of %(when)s.")
        )
        yield Told(
            subject=f"subscription:{one.pk}",
            sentence=words % {"name": one.name, "when": when(one.newest)},
        )


@rule("webhooks.A003", Severity.INFO, _ROTATE)
def never_rotated(scene: Scene) -> Iterator[Told]:
    """Yield subscriptions past half of that time that still have their first key."""
    days = timedelta(days=settings.WEBHOOKS_AUDIT_KEY_DAYS)
    rows = _subscriptions(scene).filter(
        newest__lte=scene.now - days / 2, newest__gt=scene.now - days
    )
    for one in rows.iterator():
        if _is_first(one):
            yield Told(
                subject=f"subscription:{one.pk}",
                sentence=_("The signing key of %(name)s, of %(when)s, was never rotated.")
                % {"name": one.name, "when": when(one.newest)},
            )


@rule(
    "webhooks.A004",
    Severity.INFO,
    gettext_lazy("Ask the receiver to verify Standard Webhooks, then choose no further signature."),
)
def legacy(scene: Scene) -> Iterator[Told]:
    """Yield subscriptions that sign in the way of another service as well."""
    rows = Subscription.objects.using(scene.using).exclude(
        signature_style=Subscription.SignatureStyle.STANDARD
    )
    for one in rows.iterator():
        # GitHub's has no timestamp: what was captured once can be sent again.
        is_weak = one.signature_style == Subscription.SignatureStyle.GITHUB
        yield Told(
            subject=f"subscription:{one.pk}",
            sentence=_("%(name)s carries a further signature: %(style)s.")
            % {"name": one.name, "style": one.get_signature_style_display()},
            severity=Severity.WARNING if is_weak else None,
        )


@rule(
    "webhooks.A019",
    Severity.WARNING,
    gettext_lazy("Run 'manage.py webhooks_rotate_keys', then remove the former key."),
)
def former_keys(scene: Scene) -> Iterator[Told]:
    """Yield encryption keys that are not the first one, and still needed."""
    known = _known()
    for id, count in _in_use(scene).items():
        if id in known[1:]:
            yield Told(
                subject=f"key:{id}",
                sentence=_("%(count)d values are encrypted with the former key %(id)s.")
                % {"count": count, "id": id},
            )


@rule(
    "webhooks.A020",
    Severity.SEVERE,
    gettext_lazy("Add the key to WEBHOOKS_ENCRYPTION_KEYS again, or enter the values anew."),
)
def missing_keys(scene: Scene) -> Iterator[Told]:
    """Yield encryption keys that are needed, and not there."""
    known = _known()
    for id, count in _in_use(scene).items():
        if id not in known:
            yield Told(
                subject=f"key:{id}",
                sentence=_("%(count)d values cannot be read: the key %(id)s is missing.")
                % {"count": count, "id": id},
            )


def _subscriptions(scene: Scene) -> QuerySet[Any]:
    rows = Subscription.objects.using(scene.using)
    return rows.annotate(
        newest=Max("signing_keys__created_at"), oldest=Min("signing_keys__created_at")
    )


def _is_first(subscription: Any) -> bool:
    # Former keys are removed some time after they expire, so that one alone tells nothing.
    made, first = subscription.created_at, subscription.oldest
    return bool(first == subscription.newest and first <= made + _AT_ONCE)


def _in_use(scene: Scene) -> dict[str, int]:
    """Return how many values need each encryption key, by its id."""
    start, length = len(encryption.PREFIX) + 1, len(encryption.keys()[0].id)
    found: dict[str, int] = {}
    for model in MODELS:
        for field in encrypted_fields(model):
            raw = Cast(F(field.name), output_field=TextField())
            rows = model._default_manager.using(scene.using).annotate(raw=raw).exclude(raw="")
            rows = rows.order_by().annotate(used=Substr("raw", start, length)).values("used")
            for one in rows.annotate(count=Count("pk")):
                found[one["used"]] = found.get(one["used"], 0) + one["count"]
    return found


def _known() -> list[str]:
    ring = encryption.keys()
    return [key.id for key in ring]

"""Disabling: what becomes of a subscription all of whose endpoints fail for days."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction
from django.db.models import Exists, OuterRef
from django.utils.translation import gettext

from ... import signals, times
from ...commits import send_after_commit
from ...models import EndpointHealth, Subscription
from ...models.notification import Notification
from .. import database
from ..fan_out import operational

#: Shares of WEBHOOKS_DISABLE_AFTER_SECONDS at which the owner is warned; at the last one the
#: subscription is disabled.
STAGES = (0.5, 0.9, 1.0)


def disable_long_down(*, using: str | None = None, now: datetime | None = None) -> int:
    """Disable subscriptions all of whose endpoints failed for too long; return how many.

    On the way there their owners are warned, at a half and at nine tenths of the time.
    """
    using = using or database.alias()
    now = now or times.now()
    candidates = EndpointHealth.objects.using(using).filter(
        subscription_id=OuterRef("pk"), endpoint__disabled_at__isnull=True
    )
    down = (
        Subscription.objects.using(using)
        .active()
        .filter(Exists(candidates), ~Exists(candidates.filter(failing_since__isnull=True)))
    )
    # Owners of recovered subscriptions are warned anew the next time.
    Subscription.objects.using(using).active().filter(
        ~Exists(candidates) | Exists(candidates.filter(failing_since__isnull=True)),
        notified_down_stage__gt=0,
    ).update(notified_down_stage=0)
    disabled = 0
    for subscription in down.prefetch_related("endpoint_health__endpoint"):
        usable = (
            candidate
            for candidate in subscription.endpoint_health.all()
            if candidate.endpoint.is_usable
        )
        since = max(candidate.failing_since for candidate in usable if candidate.failing_since)
        share = (now - since).total_seconds() / subscription.disabled_after
        stage = sum(share >= one for one in STAGES)
        if stage > subscription.notified_down_stage:
            disabled += _reach(subscription, stage, since=since, using=using)
    return disabled


def _reach(subscription: Subscription, stage: int, *, since: datetime, using: str) -> int:
    rows = Subscription.objects.using(using).active().filter(pk=subscription.pk)
    is_over = stage == len(STAGES)
    with transaction.atomic(using=using):
        if not rows.filter(notified_down_stage__lt=stage).update(notified_down_stage=stage):
            return 0  # Another worker did.
        if not is_over:
            _tell(Notification.Kind.FAILING, subscription, stage, using=using)
            return 0
        reason = gettext("All endpoints have failed since %(since)s.") % {
            "since": since.isoformat(timespec="seconds")
        }
        subscription.notified_down_stage = stage
        subscription.disable(reason)
        _tell(Notification.Kind.DISABLED, subscription, stage, using=using)
        send_after_commit(
            signals.subscription_disabled,
            sender=Subscription,
            using=using,
            subscription=subscription,
            reason=reason,
        )
    return 1


def _tell(kind: Notification.Kind, subscription: Subscription, stage: int, *, using: str) -> None:
    operational.note(kind, subscription, {"share": STAGES[stage - 1]}, using=using)

"""Disabling: what becomes of a subscription all of whose endpoints fail for days."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction
from django.db.models import Exists, OuterRef
from django.utils import timezone
from django.utils.translation import gettext

from .. import catalog, signals
from ..models import Health, Subscription
from . import operational, outbox

#: Shares of WEBHOOKS_DISABLE_AFTER at which the owner is warned; at the last one it is disabled.
STAGES = (0.5, 0.9, 1.0)


def disable_long_down(*, using: str | None = None, now: datetime | None = None) -> int:
    """Disable subscriptions all of whose endpoints failed for too long; return how many.

    On the way there their owners are warned, at a half and at nine tenths of the time.
    """
    using = using or outbox.database()
    now = now or timezone.now()
    doors = Health.objects.using(using).filter(
        subscription_id=OuterRef("pk"), endpoint__disabled_at__isnull=True
    )
    down = (
        Subscription.objects.using(using)
        .active()
        .filter(Exists(doors), ~Exists(doors.filter(failing_since__isnull=True)))
    )
    # Who recovered is warned anew the next time.
    Subscription.objects.using(using).active().filter(
        ~Exists(doors) | Exists(doors.filter(failing_since__isnull=True)), down_warnings__gt=0
    ).update(down_warnings=0, told_stage=0)
    disabled = 0
    for subscription in down.prefetch_related("doors__endpoint"):
        usable = (door for door in subscription.doors.all() if door.endpoint.is_usable)
        since = max(door.failing_since for door in usable if door.failing_since)
        share = (now - since).total_seconds() / subscription.disabled_after
        stage = sum(share >= one for one in STAGES)
        if stage > subscription.down_warnings:
            disabled += _reach(subscription, stage, since=since, using=using)
    return disabled


def _reach(subscription: Subscription, stage: int, *, since: datetime, using: str) -> int:
    rows = Subscription.objects.using(using).active().filter(pk=subscription.pk)
    is_over = stage == len(STAGES)
    with transaction.atomic(using=using):
        if not rows.filter(down_warnings__lt=stage).update(down_warnings=stage):
            return 0  # Another worker did.
        if not is_over:
            _tell(operational.FAILING, subscription, stage, using=using)
            return 0
        reason = gettext("All endpoints have failed since %(since)s.") % {
            "since": since.isoformat(timespec="seconds")
        }
        subscription.down_warnings = stage
        subscription.disable(reason)
        _tell(operational.DISABLED, subscription, stage, using=using)
        transaction.on_commit(
            lambda: (
                signals.subscription_disabled.send_robust(
                    sender=Subscription, subscription=subscription, reason=reason
                )
                and None
            ),
            using=using,
        )
    return 1


def _tell(kind: catalog.EventType, subscription: Subscription, stage: int, *, using: str) -> None:
    operational.emit(kind, subscription, {"share": STAGES[stage - 1]}, using=using)

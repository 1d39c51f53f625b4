"""Audit rules about subscriptions: stopped, silent, without a backup."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.db import Error, transaction
from django.db.models import Count, Exists, OuterRef, Q, QuerySet
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ...models import Delivery, EndpointHealth, Subscription
from ...sending.figures import health_report
from ..finding import AuditContext, FindingDraft, Severity, rule


@rule(
    "webhooks.A011",
    Severity.SEVERE,
    gettext_lazy("Mend its endpoints, then resume it: its deliveries wait. Or delete it."),
)
def disabled(context: AuditContext) -> Iterator[FindingDraft]:
    """Yield subscriptions that the system stopped."""
    rows = Subscription.objects.using(context.using).filter(status=Subscription.Status.DISABLED)
    return _stopped(rows, _("%(name)s is disabled since %(since)s: %(reason)s"))


@rule(
    "webhooks.A012",
    Severity.WARNING,
    gettext_lazy("Resume it, or delete it: what happens meanwhile is kept for it."),
)
def paused(context: AuditContext) -> Iterator[FindingDraft]:
    """Yield subscriptions that somebody paused for longer than a week."""
    rows = Subscription.objects.using(context.using).filter(
        status=Subscription.Status.PAUSED, sending_changed_at__lte=_limit(context)
    )
    return _stopped(rows, _("%(name)s is paused since %(since)s: %(reason)s"))


@rule(
    "webhooks.A013",
    Severity.WARNING,
    gettext_lazy("See whether its event types happen, send it a test event, or delete it."),
)
def silent(context: AuditContext) -> Iterator[FindingDraft]:
    """Yield active subscriptions that nothing was ever delivered to."""
    candidates = EndpointHealth.objects.using(context.using).filter(
        subscription_id=OuterRef("pk"), succeeded_at__isnull=False
    )
    arrived = Delivery.objects.using(context.using).filter(
        subscription_id=OuterRef("pk"), status=Delivery.Status.SUCCEEDED
    )
    rows = Subscription.objects.using(context.using).active()
    rows = rows.filter(~Exists(candidates), ~Exists(arrived), created_at__lte=_limit(context))
    for one in rows.iterator():
        words = _("Nothing was ever delivered to %(name)s, which is of %(when)s.")
        yield FindingDraft.of(one, words, name=one.name, when=one.created_at)


@rule(
    "webhooks.A014",
    Severity.INFO,
    gettext_lazy("Add a backup endpoint: docs/howto/backup-endpoint.md."),
)
def no_backup(context: AuditContext) -> Iterator[FindingDraft]:
    """Yield subscriptions that have one endpoint, or none."""
    usable = Count("endpoints", filter=Q(endpoints__disabled_at__isnull=True))
    rows: QuerySet[Any] = Subscription.objects.using(context.using).active().annotate(usable=usable)
    for one in rows.filter(usable__lt=2).iterator():
        words = (
            _("%(name)s has one endpoint: what happens while that is down waits.")
            if one.usable
            else _("%(name)s has no endpoint: what happens waits.")
        )
        severity = None if one.usable else Severity.WARNING
        yield FindingDraft.of(one, words, severity, name=one.name)


@rule(
    "webhooks.A040",
    Severity.WARNING,
    gettext_lazy("Delete it, or give it an owner that exists. See WEBHOOKS_OWNER_MODELS."),
)
def ownerless(context: AuditContext) -> Iterator[FindingDraft]:
    """Yield subscriptions that are sent to although their owner was deleted."""
    rows = Subscription.objects.using(context.using).active().exclude(owner_type="")
    for one in rows.iterator():
        if _is_gone(one, using=context.using):
            words = _("The owner of %(name)s, %(owner)s, does not exist.")
            owner = f"{one.owner_type} {one.owner_id}"
            yield FindingDraft.of(one, words, name=one.name, owner=owner)


def _is_gone(subscription: Subscription, *, using: str) -> bool:
    try:
        with transaction.atomic(using=using):
            return subscription.owner is None
    except (Error, ValueError, ValidationError):
        # The table is elsewhere, such as in a tenant's schema: that proves nothing.
        return False


def _limit(context: AuditContext) -> datetime:
    return context.now - health_report.IDLE


def _stopped(rows: QuerySet[Subscription], words: str) -> Iterator[FindingDraft]:
    for one in rows.iterator():
        yield FindingDraft.of(
            one, words, name=one.name, since=one.sending_changed_at, reason=one.status_reason
        )

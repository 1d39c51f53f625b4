"""What is wrong with subscriptions: stopped, silent, without a backup."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, Exists, OuterRef, Q, QuerySet
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ...conf import settings
from ...models import Delivery, Health, Subscription
from ..finding import Scene, Severity, Told, rule
from .endpoints import when


@rule(
    "webhooks.A011",
    Severity.SEVERE,
    gettext_lazy("Mend its endpoints, then resume it: its deliveries wait. Or delete it."),
)
def disabled(scene: Scene) -> Iterator[Told]:
    """Yield subscriptions that the system stopped."""
    rows = Subscription.objects.using(scene.using).filter(status=Subscription.Status.DISABLED)
    for one in rows.iterator():
        yield _told(
            one,
            _("%(name)s is disabled since %(since)s: %(reason)s")
            % {
                "name": one.name,
                "since": when(one.flow_changed_at),
                "reason": one.status_reason,
            },
        )


@rule(
    "webhooks.A012",
    Severity.WARNING,
    gettext_lazy("Resume it, or delete it: what happens meanwhile is kept for it."),
)
def paused(scene: Scene) -> Iterator[Told]:
    """Yield subscriptions that somebody paused for longer than WEBHOOKS_AUDIT_IDLE_DAYS."""
    rows = Subscription.objects.using(scene.using).filter(
        status=Subscription.Status.PAUSED, flow_changed_at__lte=_limit(scene)
    )
    for one in rows.iterator():
        yield _told(
            one,
            _("%(name)s is paused since %(since)s: %(reason)s")
            % {
                "name": one.name,
                "since": when(one.flow_changed_at),
                "reason": one.status_reason,
            },
        )


@rule(
    "webhooks.A013",
    Severity.WARNING,
    gettext_lazy("See whether its event types happen, send it a test event, or delete it."),
)
def silent(scene: Scene) -> Iterator[Told]:
    """Yield active subscriptions that nothing was ever delivered to."""
    doors = Health.objects.using(scene.using).filter(
        subscription_id=OuterRef("pk"), succeeded_at__isnull=False
    )
    arrived = Delivery.objects.using(scene.using).filter(
        subscription_id=OuterRef("pk"), status=Delivery.Status.SUCCEEDED
    )
    rows = Subscription.objects.using(scene.using).active()
    rows = rows.filter(~Exists(doors), ~Exists(arrived), created_at__lte=_limit(scene))
    for one in rows.iterator():
        yield _told(
            one,
            _("Nothing was ever delivered to %(name)s, which is of %(when)s.")
            % {"name": one.name, "when": when(one.created_at)},
        )


@rule(
    "webhooks.A014",
    Severity.INFO,
    gettext_lazy("Add a backup endpoint: docs/howto/backup-endpoint.md."),
)
def no_backup(scene: Scene) -> Iterator[Told]:
    """Yield subscriptions that have one endpoint, or none."""
    usable = Count("endpoints", filter=Q(endpoints__disabled_at__isnull=True))
    rows: QuerySet[Any] = Subscription.objects.using(scene.using).active().annotate(usable=usable)
    for one in rows.filter(usable__lt=2).iterator():
        words = (
            _("%(name)s has one endpoint: what happens while that is down waits.")
            if one.usable
            else _("%(name)s has no endpoint: what happens waits.")
        )
        yield _told(
            one, words % {"name": one.name}, severity=None if one.usable else Severity.WARNING
        )


def _limit(scene: Scene) -> datetime:
    return scene.now - timedelta(days=settings.WEBHOOKS_AUDIT_IDLE_DAYS)


def _told(one: Subscription, sentence: str, *, severity: Severity | None = None) -> Told:
    return Told(subject=f"subscription:{one.pk}", sentence=sentence, severity=severity)

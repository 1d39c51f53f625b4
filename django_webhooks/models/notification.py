"""Notifications: what people and programs are to be told of, each a row until it was.

A row is written with the change that it tells of, so that a crash forgets nothing. ``notified_at``
is when programs were told by an operational event, ``mailed_at`` when people were by mail, or when
it was decided that nobody is to be.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db import models
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from .. import times
from ..fields import UTCDateTimeField, UUID7Field
from ..policies.reasons import Reason
from .subscription import Subscription

#: Deliveries that a notification names.
EXAMPLES = 5
#: Time for which what was told is kept.
KEPT = timedelta(days=30)


class NotificationQuerySet(models.QuerySet["Notification"]):
    """Named sets of notifications, and how one comes to be."""

    def untold(self) -> NotificationQuerySet:
        """Return those that no event tells of yet, the oldest first."""
        return self.filter(notified_at__isnull=True).order_by("pk")

    def unmailed(self) -> NotificationQuerySet:
        """Return those whose recipients are not decided yet, the oldest first.

        Not those to which more may be added: what came while the mail was on its way would be in
        no mail.
        """
        return self.filter(mailed_at__isnull=True, open_key__isnull=True).order_by("pk")

    def given_up(
        self, subscription: UUID, reasons: Mapping[str, int], examples: Sequence[UUID]
    ) -> None:
        """Note that deliveries were given up: how many for each reason, and some of them.

        Deliveries that nobody was told of yet are told of as one. Call it in the transaction that
        gives them up.
        """
        key, count = f"given_up:{subscription}", sum(reasons.values())
        blank = Notification(
            kind=Notification.Kind.GIVEN_UP, subscription_id=subscription, open_key=key, count=0
        )
        self.bulk_create([blank], ignore_conflicts=True)
        row = self.select_for_update().filter(open_key=key).first()
        if row is None:  # It was told between the two statements.
            row = self.create(
                kind=Notification.Kind.GIVEN_UP, subscription_id=subscription, count=0
            )
        known = row.detail.get("reasons", {})
        row.count += count
        row.detail = {
            "reasons": {
                one: known.get(one, 0) + reasons.get(one, 0) for one in {**known, **reasons}
            },
            "deliveries": [
                *row.detail.get("deliveries", []),
                *(str(one) for one in examples),
            ][:EXAMPLES],
        }
        row.save(using=self.db, update_fields=["count", "detail"])

    def looped(self, subscription: UUID, deliveries: Sequence[UUID]) -> None:
        """Note deliveries that were given up because webhooks cause each other.

        People alone are told: another event might go round as well. Call it in the transaction that
        gives them up.
        """
        self.create(
            kind=Notification.Kind.GIVEN_UP,
            subscription_id=subscription,
            count=len(deliveries),
            detail={
                "reasons": {str(Reason.LOOP): len(deliveries)},
                "deliveries": [str(one) for one in deliveries[:EXAMPLES]],
            },
            notified_at=times.now(),
        )

    def prune(self, *, now: datetime) -> int:
        """Remove what was told and mailed long ago; return how many."""
        old = self.filter(created_at__lt=now - KEPT, mailed_at__isnull=False)
        return old.filter(notified_at__isnull=False)._raw_delete(self.db)


class Notification(models.Model):
    """One thing that is told, or several deliveries that were given up told as one."""

    class Kind(models.TextChoices):
        """The kinds; ``webhooks.`` and the kind is the type of the operational event."""

        # Deliveries are not tried again.
        GIVEN_UP = "delivery.given_up", pgettext_lazy("notification", "Deliveries given up")
        # An endpoint is not called any more, because it fails.
        UNHEALTHY = "endpoint.unhealthy", pgettext_lazy("notification", "Endpoint unhealthy")
        # An endpoint takes deliveries again.
        RECOVERED = "endpoint.recovered", pgettext_lazy("notification", "Endpoint recovered")
        # The receiver of an endpoint said that it is gone, or somebody disabled it.
        ENDPOINT_DISABLED = (
            "endpoint.disabled",
            pgettext_lazy("notification", "Endpoint disabled"),
        )
        # The active endpoint of a subscription is another one, or none.
        SWITCHED = "subscription.switched", pgettext_lazy("notification", "Switched")
        # All endpoints of a subscription failed for long.
        FAILING = "subscription.failing", pgettext_lazy("notification", "Will be disabled")
        # Its deliveries failed for too long.
        DISABLED = "subscription.disabled", pgettext_lazy("notification", "Disabled")
        # Its URLs or keys do not open.
        UNREADABLE = "subscription.unreadable", pgettext_lazy("notification", "Unreadable")
        # Its URLs and keys open again.
        READABLE = "subscription.readable", pgettext_lazy("notification", "Readable again")
        # Workers, beat, keys or events: the site is not well, or is again.
        SITE_DOWN = "site.not_well", pgettext_lazy("notification", "Site not well")
        SITE_UP = "site.well", pgettext_lazy("notification", "Site well again")
        # An audit found something new.
        AUDIT = "audit.findings", pgettext_lazy("notification", "Audit findings")

    id = UUID7Field()
    kind = models.CharField(_("kind"), max_length=30, choices=Kind.choices)
    #: NULL where it concerns the site.
    subscription = models.ForeignKey(
        Subscription,
        on_delete=models.CASCADE,
        null=True,
        related_name="notifications",
        verbose_name=_("subscription"),
    )
    #: Of the site: what is not well, such as ``beat``.
    subject = models.CharField(max_length=40, blank=True)
    #: While more may be added to it; NULL, of which a unique column takes many, once it was told.
    open_key = models.CharField(max_length=60, null=True, unique=True)  # noqa: DJ001
    count = models.PositiveIntegerField(_("count"), default=1)
    detail = models.JSONField(default=dict)
    created_at = UTCDateTimeField(_("created"), default=times.now)
    notified_at = UTCDateTimeField(_("notified"), null=True)
    mailed_at = UTCDateTimeField(_("mailed"), null=True)
    #: Whether a mail was sent to anybody.
    was_mailed = models.BooleanField(default=False)

    objects = NotificationQuerySet.as_manager()

    if TYPE_CHECKING:
        subscription_id: UUID | None

    class Meta:
        verbose_name = _("notification")
        verbose_name_plural = _("notifications")
        ordering = ["-id"]
        default_permissions = ()
        indexes = [
            # Rows that are looked for every few seconds. MySQL and MariaDB ignore the conditions.
            models.Index(
                fields=["notified_at"],
                condition=models.Q(notified_at__isnull=True),
                name="webhooks_notification_untold",
            ),
            models.Index(
                fields=["mailed_at"],
                condition=models.Q(mailed_at__isnull=True),
                name="webhooks_notification_unmailed",
            ),
            models.Index(fields=["subject", "id"], name="webhooks_notification_subject"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.created_at:%Y-%m-%d %H:%M:%S}"

    def said(self) -> dict[str, Any]:
        """Return what the operational event says beside whom it concerns."""
        counted = {"count": self.count} if self.kind == self.Kind.GIVEN_UP else {}
        return {**counted, **self.detail}

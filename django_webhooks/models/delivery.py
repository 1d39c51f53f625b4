"""Deliveries: one event for one subscription, until it is over.

    waiting --attempt succeeded--> succeeded
    waiting --attempt failed, worth repeating--> waiting
    waiting --attempt final, or limits reached--> given_up
    waiting --subscription deleted, or by hand--> cancelled

Deliveries of a subscription that has an order share a lane, ``ordering_key``, in which one is under
way at a time, in the order of their ids. Whose lane is empty waits for no other.

While it waits, ``due_at`` is when a worker may next take it: the moment of its next attempt; the
end of the lease while a worker has it; NULL while it is held, because its subscription is paused or
has no endpoint, or because it is not the first of its lane. What is over has no ``due_at``, so the
index of due work holds what waits alone.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from ..fields import DatabaseNow, uuid7
from ..policies.health import NO_ANSWER
from .bulk_replay import BulkReplay
from .endpoint import Endpoint
from .event import Event, message_id
from .lanes import LaneQuerySet
from .subscription import Subscription

if TYPE_CHECKING:
    from django.db.models.fields.related_descriptors import RelatedManager

    from .attempt import Attempt


class DeliveryQuerySet(LaneQuerySet):
    """Named sets of deliveries."""

    def waiting(self) -> DeliveryQuerySet:
        """Those that are not over."""
        return self.filter(status=Delivery.Status.WAITING)

    def due(self, now: datetime) -> DeliveryQuerySet:
        """Those that a worker may take now; expired leases included."""
        # The index begins with the priority.
        return self.filter(priority__in=Delivery.Priority.values, due_at__lte=now)

    def longest_due(self, now: datetime, priority: int) -> DeliveryQuerySet:
        """Those of one priority that a worker may take now, the longest due first."""
        return self.filter(priority=priority, due_at__lte=now).order_by("due_at", "pk")

    def held(self) -> DeliveryQuerySet:
        """Those that wait for their subscription rather than for a moment."""
        return self.waiting().filter(due_at__isnull=True)

    def oldest_first(self) -> DeliveryQuerySet:
        """These, which are held, in the order of their index: none is sorted to find the first."""
        return self.order_by("due_at", "pk")

    def succeeded(self) -> DeliveryQuerySet:
        """Those that arrived."""
        return self.filter(status=Delivery.Status.SUCCEEDED)

    def given_up(self) -> DeliveryQuerySet:
        """Those that are not tried again."""
        return self.filter(status=Delivery.Status.GIVEN_UP)

    def release(self, *, limit: int | None = None) -> int:
        """Make those that are held due now, the oldest first, and return how many that were.

        What waits for its turn goes on waiting for it. Call it for whole subscriptions.
        """
        if limit is not None:
            return self.make_due(self.releasable(limit), now=DatabaseNow())
        free = self.held().filter(ordering_key="")
        return free.update(due_at=DatabaseNow()) + self.release_heads()

    def releasable(self, limit: int) -> list[UUID]:
        """Return the oldest that are held and whose turn it is. Call it for one subscription."""
        free = self.held().filter(ordering_key="").oldest_first()
        oldest = list(free.values_list("pk", flat=True)[:limit])
        heads = list(self.held_heads().order_by("pk").values_list("pk", flat=True)[:limit])
        return sorted(oldest + heads)[:limit]

    def bring_forward(self, *, now: datetime) -> int:
        """Make those due now that wait because an endpoint failed, and return how many that are."""
        waits_for_endpoint = models.Q(reason__in=NO_ANSWER) | models.Q(reason__startswith="http_5")
        later = self.waiting().filter(due_at__gt=now, lease_token__isnull=True)
        return later.filter(waits_for_endpoint, attempts_made__gt=0).update(due_at=now)

    def try_now(self, now: datetime) -> int:
        """Make those due now that wait for a moment, and return how many that were.

        What a worker has, and what is held because its subscription cannot be sent to, stays.
        """
        later = self.waiting().filter(due_at__gt=now, lease_token__isnull=True)
        return later.update(due_at=now)

    def cancel(self, reason: str) -> int:
        """End those that wait without a further attempt, and return how many that were."""
        with self.making_way():
            return self.waiting().update(
                status=Delivery.Status.CANCELLED,
                reason=reason,
                due_at=None,
                lease_token=None,
                finished_at=timezone.now(),
            )


DeliveryManager = models.Manager.from_queryset(DeliveryQuerySet)


class Delivery(models.Model):
    """One event for one subscription."""

    class Status(models.TextChoices):
        """What became of a delivery; the module's docstring has the moves."""

        # An attempt is due, under way, or held back.
        WAITING = "waiting", pgettext_lazy("delivery", "Waiting")
        # A receiver answered 2xx.
        SUCCEEDED = "succeeded", pgettext_lazy("delivery", "Succeeded")
        # It is not tried again; it is kept and can be replayed.
        GIVEN_UP = "given_up", pgettext_lazy("delivery", "Given up")
        # Somebody, or the end of its subscription, called it off.
        CANCELLED = "cancelled", pgettext_lazy("delivery", "Cancelled")

    class Priority(models.IntegerChoices):
        """What goes first where workers cannot do all at once; neither shuts the other out."""

        # What has not been tried yet.
        FRESH = 0, pgettext_lazy("priority", "Fresh")
        # Retries and replays.
        AGAIN = 1, pgettext_lazy("priority", "Again")

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    event = models.ForeignKey(
        Event,
        on_delete=models.PROTECT,
        # The unique constraint begins with it.
        db_index=False,
        related_name="deliveries",
        verbose_name=_("event"),
    )
    subscription = models.ForeignKey(
        Subscription,
        on_delete=models.SET_NULL,
        null=True,
        related_name="deliveries",
        verbose_name=_("subscription"),
    )
    replay = models.PositiveSmallIntegerField(
        _("replay"), default=0, help_text=_("0 for the first delivery, then 1 for each replay.")
    )
    replay_of = models.ForeignKey(
        "self",
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        db_index=False,
        related_name="replays",
        verbose_name=_("replay of"),
    )
    bulk_replay = models.ForeignKey(
        BulkReplay,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        db_index=False,
        related_name="deliveries",
        verbose_name=_("bulk replay"),
    )
    endpoint = models.ForeignKey(
        Endpoint,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        db_index=False,
        related_name="+",
        verbose_name=_("sent to"),
        help_text=_("The endpoint that a replay was meant for; empty: the active one."),
    )
    has_new_message_id = models.BooleanField(
        _("new message id"),
        default=False,
        help_text=_("For a receiver that lost what it had accepted: it does not drop this one."),
    )
    status = models.CharField(
        _("status"), max_length=10, choices=Status.choices, default=Status.WAITING
    )
    priority = models.PositiveSmallIntegerField(
        _("priority"), choices=Priority.choices, default=Priority.FRESH, editable=False
    )
    #: Its lane within the subscription, from the ordering key of the event; empty without an order.
    ordering_key = models.CharField(max_length=32, blank=True, editable=False)
    due_at = models.DateTimeField(_("due"), null=True, blank=True)
    lease_token = models.UUIDField(null=True, blank=True, editable=False)
    attempts_made = models.PositiveIntegerField(_("attempts"), default=0)
    reason = models.CharField(
        _("reason"),
        max_length=40,
        blank=True,
        help_text=_("Why the last attempt failed, or why the delivery is over."),
    )
    created_at = models.DateTimeField(_("created"), default=timezone.now)
    finished_at = models.DateTimeField(_("finished"), null=True, blank=True)

    objects = DeliveryManager()

    if TYPE_CHECKING:
        attempts: RelatedManager[Attempt]
        subscription_id: UUID | None
        endpoint_id: UUID | None
        bulk_replay_id: UUID | None
        event_id: UUID

    class Meta:
        verbose_name = _("delivery")
        verbose_name_plural = _("deliveries")
        ordering = ["-id"]
        permissions = [
            ("replay_delivery", "Can replay deliveries, and try those that wait now"),
            ("cancel_delivery", "Can cancel deliveries that wait"),
        ]
        indexes = [
            # What waits for a moment. MySQL and MariaDB ignore the condition.
            models.Index(
                fields=["priority", "due_at"],
                condition=models.Q(due_at__isnull=False),
                name="webhooks_delivery_due",
            ),
            # What is held, by subscription, the oldest first.
            models.Index(
                fields=["subscription", "due_at", "id"],
                condition=models.Q(status="waiting"),
                name="webhooks_delivery_held",
            ),
            # Whose turn it is in each lane. Where the condition is ignored, the status keeps what
            # is over apart.
            models.Index(
                fields=["subscription", "status", "ordering_key", "id"],
                condition=models.Q(status="waiting") & ~models.Q(ordering_key=""),
                name="webhooks_delivery_turn",
            ),
            # What may be pruned. What waits, which is written most, is not in it.
            models.Index(
                fields=["status", "finished_at"],
                condition=~models.Q(status="waiting"),
                name="webhooks_delivery_finished",
            ),
            # What replays one delivery, what one bulk replay made, and what is meant for one
            # endpoint: few rows, and the others pay nothing for them.
            models.Index(
                fields=["replay_of"],
                condition=models.Q(replay_of__isnull=False),
                name="webhooks_delivery_replay",
            ),
            models.Index(
                fields=["bulk_replay", "status"],
                condition=models.Q(bulk_replay__isnull=False),
                name="webhooks_delivery_bulk",
            ),
            models.Index(
                fields=["endpoint"],
                condition=models.Q(endpoint__isnull=False),
                name="webhooks_delivery_endpoint",
            ),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["event", "subscription", "replay"], name="webhooks_delivery_once"
            ),
            models.CheckConstraint(
                condition=(
                    models.Q(status="waiting", finished_at__isnull=True)
                    | (
                        ~models.Q(status="waiting")
                        & models.Q(
                            due_at__isnull=True,
                            lease_token__isnull=True,
                            finished_at__isnull=False,
                        )
                    )
                ),
                name="webhooks_delivery_waits_or_is_over",
            ),
        ]

    def __str__(self) -> str:
        return str(self.pk)

    @property
    def message_id(self) -> str:
        """The ``webhook-id`` of its requests: that of the event, unless it was given a new one."""
        return message_id(self.pk if self.has_new_message_id else self.event_id)

    @property
    def is_over(self) -> bool:
        """Whether no further attempt will be made."""
        return self.status != self.Status.WAITING

    def waits_for(self) -> UUID | None:
        """Return what of its lane goes before it, or None where it is its turn, or it has none."""
        if not self.ordering_key or self.is_over:
            return None
        own = Delivery.objects.using(self._state.db).filter(pk=self.pk)
        first = own.firsts().get(self.pk)
        return first if first != self.pk else None

    def explain(self, now: datetime | None = None) -> str:
        """Return in one sentence what became of it, or why it waits and until when."""
        from .explaining import explain  # it refers to deliveries

        return explain(self, now or timezone.now())

"""Deliveries: one event for one subscription, until it is over.

    waiting --attempt succeeded--> succeeded
    waiting --attempt failed, worth repeating--> waiting
    waiting --attempt final, or limits reached--> given_up
    waiting --subscription deleted, or by hand--> cancelled

Deliveries of a subscription that has an order share a partition, ``partition``, in which one is
under way at a time, in the order of their ids. A delivery whose partition is empty waits for no
other.

While it waits, ``due_at`` is when a worker may next take it: the moment of its next attempt; the
end of the lease while a worker has it; NULL while it is held, because its subscription is paused or
has no endpoint, or because it is not the first of its partition. A delivery that is over has no
``due_at``, so that the index of due work holds the others alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from django.db import models, transaction
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from .. import times
from ..audit_log import current_actor
from ..fields import DatabaseNow, UTCDateTimeField, UUID7Field
from ..policies import reasons
from ..policies.health import NO_ANSWER, NOT_EVIDENCE, is_refusal
from ..policies.reasons import Reason
from . import status_text
from .arrivals import ArrivalQuerySet
from .bulk_replay import BulkReplay
from .endpoint import Endpoint
from .event import Event, message_id
from .partitions import NAMED
from .subscription import Subscription

if TYPE_CHECKING:
    from django.db.models.fields.related_descriptors import RelatedManager

    from .attempt import Attempt


class DeliveryQuerySet(ArrivalQuerySet):
    """Named sets of deliveries."""

    def waiting(self) -> DeliveryQuerySet:
        """Return the deliveries that are not over."""
        return self.filter(status=Delivery.Status.WAITING)

    def due(self, now: datetime) -> DeliveryQuerySet:
        """Return the deliveries that a worker may take now; expired leases included."""
        # The index begins with the priority.
        return self.filter(priority__in=Delivery.Priority.values, due_at__lte=now)

    def longest_due(self, now: datetime, priority: int) -> DeliveryQuerySet:
        """Return those of one priority that a worker may take now, the longest due first."""
        return self.filter(priority=priority, due_at__lte=now).order_by("due_at", "pk")

    def held(self) -> DeliveryQuerySet:
        """Return the deliveries that wait for their subscription rather than for a moment."""
        return self.waiting().filter(due_at__isnull=True)

    def oldest_first(self) -> DeliveryQuerySet:
        """These, which are held, in the order of their index: none is sorted to find the first."""
        return self.order_by("due_at", "pk")

    def succeeded(self) -> DeliveryQuerySet:
        """Return the deliveries that arrived."""
        return self.filter(status=Delivery.Status.SUCCEEDED)

    def given_up(self) -> DeliveryQuerySet:
        """Return the deliveries that are not tried again."""
        return self.filter(status=Delivery.Status.GIVEN_UP)

    def release(self, *, limit: int | None = None) -> int:
        """Make those that are held due now, the oldest first, and return how many that were.

        A delivery that waits for its turn goes on waiting for it. Call it for whole subscriptions.
        """
        if limit is not None:
            return self.make_due(self.releasable(limit), now=DatabaseNow())
        free = self.held().filter(partition="")
        return free.update(due_at=DatabaseNow()) + self.release_heads()

    def release_for_trial(self, reason: str) -> int:
        """Make one that is held due now, to try an endpoint that fell by ``reason``; return 1 or 0.

        The oldest; after refusals the oldest that was not refused itself, if there is one. Call it
        for one subscription.
        """
        if is_refusal(reason):
            new = self.held().filter(attempts_made=0, partition="").oldest_first()
            heads = self.held_heads().filter(attempts_made=0).order_by("pk")
            for rows in (new, heads):
                first = list(rows.values_list("pk", flat=True)[:1])
                if released := self.make_due(first, now=DatabaseNow()):
                    return released
        return self.release(limit=1)

    def releasable(self, limit: int) -> list[UUID]:
        """Return the oldest that are held and whose turn it is. Call it for one subscription."""
        free = self.held().filter(partition="").oldest_first()
        oldest = list(free.values_list("pk", flat=True)[:limit])
        heads = list(self.held_heads().order_by("pk").values_list("pk", flat=True)[:limit])
        return sorted(oldest + heads)[:limit]

    def bring_forward(self, *, now: datetime, refused: bool = True) -> int:
        """Make those due now that wait because an endpoint failed, and return how many that are.

        A moment that a receiver asked for binds; ``refused`` leaves out refusals of the event.
        """
        later = self.waiting().filter(due_at__gt=now, lease_token__isnull=True)
        later = later.filter(attempts_made__gt=0, endpoint__isnull=True)
        if refused:
            later = later.exclude(reason__in=NOT_EVIDENCE)
        else:
            silent = models.Q(reason__in=NO_ANSWER) | models.Q(reason__startswith="http_5")
            later = later.filter(silent)
        return later.update(due_at=now)

    def try_now(self, now: datetime) -> int:
        """Make those due now that wait for a moment, and return how many that were.

        Leased deliveries, and those held because their subscription cannot be sent to, stay.
        """
        later = self.waiting().filter(due_at__gt=now, lease_token__isnull=True)
        return later.update(due_at=now)

    def cancel(self, reason: Reason = Reason.CANCELLED, *, by: str = "") -> int:
        """End those that wait without a further attempt, and return how many that were.

        ``by`` names who asks for it; without it that is who acts (:mod:`.actor`). Raise ValueError
        for a reason that is none: statistics keep it.
        """
        with self._making_way():
            return self.waiting().update(
                status=Delivery.Status.CANCELLED,
                reason=reasons.parse(reason),
                cancelled_by=(by or current_actor())[:150],
                due_at=None,
                lease_token=None,
                finished_at=times.now(),
            )

    @contextmanager
    def _making_way(self) -> Iterator[None]:
        """Pass on the turns of those that the block ends; by locking the endpoints first, as all
        do."""
        ordered = self.filter(status="waiting").exclude(partition="").order_by()
        with transaction.atomic(using=self.db):
            partitions: dict[tuple[UUID | None, str], UUID] = {
                (subscription, partition): key
                for key, subscription, partition in ordered.values_list(
                    "pk", "subscription_id", "partition"
                )
            }
            if partitions:
                Endpoint.objects.using(self.db).lock_health(
                    {key for key, _ in partitions if key is not None}
                )
            yield
            ended = list(partitions.values())
            for begin in range(0, len(ended), NAMED):
                one_of_each = self._rows().filter(pk__in=ended[begin : begin + NAMED])
                one_of_each.pass_on(now=DatabaseNow())


DeliveryManager = models.Manager.from_queryset(DeliveryQuerySet)


class Delivery(models.Model):
    """One event for one subscription."""

    class Status(models.TextChoices):
        """The states of a delivery; the module's docstring has the moves."""

        # An attempt is due, under way, or held back.
        WAITING = "waiting", pgettext_lazy("delivery", "Waiting")
        # A receiver answered 2xx.
        SUCCEEDED = "succeeded", pgettext_lazy("delivery", "Succeeded")
        # The delivery is not tried again; it is kept and can be replayed.
        GIVEN_UP = "given_up", pgettext_lazy("delivery", "Given up")
        # Somebody, or the end of its subscription, called it off.
        CANCELLED = "cancelled", pgettext_lazy("delivery", "Cancelled")

    class Priority(models.IntegerChoices):
        """The order in which workers take deliveries; neither priority shuts the other out."""

        # Deliveries that have not been tried yet.
        NEW = 0, pgettext_lazy("priority", "New")
        # Retries and replays.
        RETRY = 1, pgettext_lazy("priority", "Retry")

    id = UUID7Field()
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
        # So that no fan-out waits for a transaction that deletes a subscription, and neither fails
        # by the other; ``release.cancel_orphans`` finds what was made at that very moment.
        db_constraint=False,
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
        help_text=_(
            "The endpoint that a replay was meant for, or that it is tried at because another did "
            "not take it; empty: the active one."
        ),
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
        _("priority"), choices=Priority.choices, default=Priority.NEW, editable=False
    )
    #: Its partition within the subscription, from the ordering key of the event; empty without an
    #: order.
    partition = models.CharField(max_length=32, blank=True, editable=False)
    due_at = UTCDateTimeField(_("due"), null=True, blank=True)
    lease_token = models.UUIDField(null=True, blank=True, editable=False)
    attempts_made = models.PositiveIntegerField(_("attempts"), default=0)
    reason = models.CharField(
        _("reason"),
        max_length=40,
        blank=True,
        help_text=_("Why the last attempt failed, or why the delivery is over."),
    )
    cancelled_by = models.CharField(_("cancelled by"), max_length=150, blank=True, editable=False)
    created_at = UTCDateTimeField(_("created"), default=times.now)
    finished_at = UTCDateTimeField(_("finished"), null=True, blank=True)

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
            # Deliveries that wait for a moment. MySQL and MariaDB ignore the condition.
            models.Index(
                fields=["priority", "due_at"],
                condition=models.Q(due_at__isnull=False),
                name="webhooks_delivery_due",
            ),
            # Held deliveries, by subscription, the oldest first.
            models.Index(
                fields=["subscription", "due_at", "id"],
                condition=models.Q(status="waiting"),
                name="webhooks_delivery_held",
            ),
            # The turns in each partition. Where the condition is ignored, the status keeps
            # deliveries that are over apart.
            models.Index(
                fields=["subscription", "status", "partition", "id"],
                condition=models.Q(status="waiting") & ~models.Q(partition=""),
                name="webhooks_delivery_turn",
            ),
            # Deliveries that may be pruned. Waiting ones, which are written most, are not in it.
            models.Index(
                fields=["status", "finished_at"],
                condition=~models.Q(status="waiting"),
                name="webhooks_delivery_finished",
            ),
            # The replays of one delivery, those of one bulk replay, and those meant for one
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

    def better_sibling(self) -> Delivery | None:
        """Return the delivery by which its event arrived otherwise, else the replay that waits."""
        rows = Delivery.objects.using(self._state.db).exclude(pk=self.pk)
        rows = rows.filter(event_id=self.event_id, subscription_id=self.subscription_id)
        arrived = rows.succeeded().order_by("finished_at").first()
        return arrived or rows.waiting().order_by("pk").first()

    def waits_for(self) -> UUID | None:
        """Return what of its partition goes before it, or None where it is its turn, or it has
        none."""
        if not self.partition or self.is_over:
            return None
        own = Delivery.objects.using(self._state.db).filter(pk=self.pk)
        first = own.firsts().get(self.pk)
        return first if first != self.pk else None

    def explain(self, now: datetime | None = None, *, shows_hosts: bool = True) -> str:
        """Return in one sentence what became of it, or why it waits and until when.

        Where it was blocked, a second sentence says by which rule, at which host and how that is
        changed; without the host where it is for people who may not see hosts.
        """
        return status_text.explain(self, now or times.now(), shows_hosts=shows_hosts)

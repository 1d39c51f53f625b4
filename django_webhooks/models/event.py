"""Events: what happened, recorded once with its final bytes."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db import models, router
from django.utils.translation import gettext, ngettext, pgettext_lazy
from django.utils.translation import gettext_lazy as _

from .. import times
from ..fields import UTCDateTimeField, UUID7Field
from ..policies.ordering import LONGEST
from .owner import Owned, OwnerKey

if TYPE_CHECKING:
    from django.db.models.fields.related_descriptors import RelatedManager

    from .delivery import Delivery


class EventQuerySet(models.QuerySet["Event"]):
    """Named sets of events."""

    def waiting(self) -> EventQuerySet:
        """Return the events that are not fanned out yet."""
        return self.filter(fan_out=Event.FanOut.WAITING)

    def failed(self) -> EventQuerySet:
        """Return the events whose fan-out failed; nothing of them is sent until it is repeated."""
        return self.filter(fan_out=Event.FanOut.FAILED)

    def unheard(self) -> EventQuerySet:
        """Return the events that nobody listened to, and that are kept."""
        return self.filter(fan_out=Event.FanOut.UNHEARD)

    def fan_out_again(self) -> int:
        """Let workers fan out those that failed or were unheard; return how many these are.

        Whoever listens then gets them. Events that have their deliveries are left as they are.
        """
        left = [Event.FanOut.FAILED, Event.FanOut.UNHEARD]
        return self.filter(fan_out__in=left).update(fan_out=Event.FanOut.WAITING)


class Event(Owned):
    """Something that happened. The body is what is sent, byte for byte, in every attempt.

    waiting --a worker made its deliveries--> NULL
    waiting --nobody listens--> deleted, or unheard where it is kept
    waiting --its fan-out raised--> failed
    unheard, failed --fan_out_again--> waiting
    """

    class FanOut(models.IntegerChoices):
        """How far its fan-out is; NULL where all its deliveries are made."""

        # No worker has made its deliveries, or not all of them.
        WAITING = 0, pgettext_lazy("fan-out", "Waits for a worker")
        # Making its deliveries raised; events behind it are not held up.
        FAILED = 1, pgettext_lazy("fan-out", "Failed")
        # Nobody listened; it is kept for its retention.
        UNHEARD = 2, pgettext_lazy("fan-out", "Nobody listened")

    id = UUID7Field()
    type = models.CharField(_("event type"), max_length=100)
    body = models.BinaryField(_("body"))
    idempotency_key = models.CharField(_("idempotency key"), max_length=200, blank=True)
    # NULL where there is no key: any number of these may be beside each other in a unique column.
    idempotency_digest = models.CharField(max_length=64, null=True, editable=False)  # noqa: DJ001
    ordering_key = models.CharField(
        _("ordering key"),
        max_length=LONGEST,
        blank=True,
        help_text=_("Subscriptions may have events of the same key sent one after the other."),
    )
    hops = models.PositiveSmallIntegerField(
        _("hops"),
        default=0,
        editable=False,
        help_text=_("How many webhooks, one causing the next, led to it."),
    )
    trace_parent = models.CharField(
        _("trace"),
        max_length=55,
        blank=True,
        editable=False,
        help_text=_("The traceparent of what recorded it, where that was traced."),
    )
    created_at = UTCDateTimeField(_("recorded"), default=times.now)
    #: NULL for nearly all events, so that an index holds the others alone.
    fan_out = models.PositiveSmallIntegerField(
        _("fan-out"), null=True, choices=FanOut.choices, default=FanOut.WAITING, editable=False
    )
    #: The last subscription that has its delivery, where a fan-out is cut into batches.
    fan_out_cursor = models.UUIDField(null=True, editable=False)

    objects = EventQuerySet.as_manager()

    if TYPE_CHECKING:
        deliveries: RelatedManager[Delivery]

    class Meta:
        verbose_name = _("event")
        verbose_name_plural = _("events")
        ordering = ["-id"]
        indexes = [
            # MySQL and MariaDB ignore the condition: there an entry has two bytes beside the id.
            models.Index(
                fields=["fan_out", "id"],
                condition=models.Q(fan_out__isnull=False),
                name="webhooks_event_fan_out",
            ),
            # For the search by people; uniqueness is that of the digest.
            models.Index(
                fields=["idempotency_key"],
                condition=~models.Q(idempotency_key=""),
                name="webhooks_event_key",
            ),
        ]
        constraints = [
            # On every database, because NULLs do not collide: no key, no digest. A unique field
            # would have a second index for patterns on PostgreSQL.
            models.UniqueConstraint(fields=["idempotency_digest"], name="webhooks_event_once")
        ]
        permissions = [("view_payload", "Can see the payloads of events and the answers to them")]

    def __str__(self) -> str:
        return f"{self.type} {self.message_id}"

    @property
    def message_id(self) -> str:
        """The ``webhook-id``: the same for every attempt, endpoint, subscription and replay."""
        return message_id(self.pk)

    def explain(self) -> str:
        """Return in one sentence how far its fan-out is."""
        match self.fan_out:
            case self.FanOut.WAITING if self.fan_out_cursor is not None:
                return gettext("A worker is making its deliveries.")
            case self.FanOut.WAITING:
                return gettext("Waits since %(time)s for a worker to make its deliveries.") % {
                    "time": times.written(self.created_at)
                }
            case self.FanOut.FAILED:
                return gettext(
                    "Its deliveries could not be made, so that nothing of it is sent: the worker's "
                    "log has the error. Mend its cause, then fan it out again."
                )
            case self.FanOut.UNHEARD:
                return gettext(
                    "Nobody listened to it. It is kept, and can be fanned out again to those who "
                    "listen now."
                )
        count = self.deliveries.using(self._state.db).count()
        return ngettext(
            "%(count)d delivery was made.", "%(count)d deliveries were made.", count
        ) % {"count": count}

    @property
    def payload(self) -> dict[str, Any]:
        """The body, parsed: ``type``, ``timestamp`` and ``data``."""
        payload: dict[str, Any] = json.loads(bytes(self.body))
        return payload

    @property
    def data(self) -> Any:
        """The data that the caller of ``emit`` gave, as the receiver sees it."""
        return self.payload["data"]


def message_id(key: UUID) -> str:
    """Return what receivers see as ``webhook-id``."""
    return f"msg_{key.hex}"


def digest(owner: OwnerKey, event_type: str, key: str) -> str:
    """Return what is unique for an owner, an event type and an idempotency key."""
    text = "\x1f".join((owner.type, owner.id, event_type, key))
    return hashlib.sha256(text.encode()).hexdigest()


def alias() -> str:
    """Return the alias of the database that the tables of this app live in."""
    return router.db_for_write(Event)

"""Events: what happened, recorded once with its final bytes."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from ..fields import uuid7
from ..policies.ordering import LONGEST
from .owner import Owned, OwnerKey

if TYPE_CHECKING:
    from django.db.models.fields.related_descriptors import RelatedManager

    from .delivery import Delivery


class Event(Owned):
    """Something that happened. The body is what is sent, byte for byte, in every attempt."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    type = models.CharField(_("event type"), max_length=100)
    body = models.BinaryField(_("body"))
    idempotency_key = models.CharField(_("idempotency key"), max_length=200, blank=True)
    idempotency_digest = models.CharField(max_length=64, null=True, editable=False)
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
    created_at = models.DateTimeField(_("recorded"), default=timezone.now)

    if TYPE_CHECKING:
        deliveries: RelatedManager[Delivery]

    class Meta:
        verbose_name = _("event")
        verbose_name_plural = _("events")
        ordering = ["-id"]
        indexes = [
            # For the search by people; uniqueness is that of the digest.
            models.Index(
                fields=["idempotency_key"],
                condition=~models.Q(idempotency_key=""),
                name="webhooks_event_key",
            )
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

    @property
    def payload(self) -> dict[str, Any]:
        """The body, parsed: ``type``, ``timestamp`` and ``data``."""
        payload: dict[str, Any] = json.loads(bytes(self.body))
        return payload

    @property
    def data(self) -> Any:
        """What the caller of ``emit`` gave, as the receiver sees it."""
        return self.payload["data"]


def message_id(key: UUID) -> str:
    """Return what receivers see as ``webhook-id``."""
    return f"msg_{key.hex}"


def digest(owner: OwnerKey, event_type: str, key: str) -> str:
    """Return what is unique for an owner, an event type and an idempotency key."""
    text = "\x1f".join((owner.type, owner.id, event_type, key))
    return hashlib.sha256(text.encode()).hexdigest()

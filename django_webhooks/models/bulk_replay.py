"""Bulk replays: who replays what, why, and how far it has come.

    running --all done--> done
    running --by hand--> stopped

The row is the truth: each batch moves ``cursor`` on in the transaction that records its deliveries,
so that a worker that dies repeats nothing and leaves nothing out.
"""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import TYPE_CHECKING

from django.core.validators import MinValueValidator
from django.db import models
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from .. import times
from ..fields import UTCDateTimeField, UUID7Field
from .endpoint import Endpoint

if TYPE_CHECKING:
    from uuid import UUID

    from django.db.models.fields.related_descriptors import RelatedManager

    from .delivery import Delivery


class BulkReplayQuerySet(models.QuerySet["BulkReplay"]):
    """Named sets of bulk replays."""

    def due(self, now: datetime) -> BulkReplayQuerySet:
        """Return those whose next batch may be recorded."""
        return self.filter(status=BulkReplay.Status.RUNNING, next_at__lte=now)


class BulkReplay(models.Model):
    """Many deliveries that are replayed in the background, in batches."""

    class Status(models.TextChoices):
        """The module's docstring has the moves."""

        # Batches are recorded as fast as its rate allows.
        RUNNING = "running", pgettext_lazy("bulk replay", "Running")
        # Everything that was selected has been replayed or left out.
        DONE = "done", pgettext_lazy("bulk replay", "Done")
        # Somebody stopped it; what was replayed stays.
        STOPPED = "stopped", pgettext_lazy("bulk replay", "Stopped")

    id = UUID7Field()
    token = models.UUIDField(unique=True, default=uuid.uuid4, editable=False)
    by = models.CharField(_("by"), max_length=150, blank=True)
    reason = models.CharField(_("reason"), max_length=200)
    selection = models.JSONField(_("selection"), default=dict)
    endpoint = models.ForeignKey(
        Endpoint,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        verbose_name=_("sent to"),
    )
    gives_new_message_ids = models.BooleanField(_("new message ids"), default=False)
    rate = models.PositiveIntegerField(_("deliveries a second"), validators=[MinValueValidator(1)])
    status = models.CharField(
        _("status"), max_length=10, choices=Status.choices, default=Status.RUNNING
    )
    total = models.PositiveIntegerField(_("selected"), default=0)
    replayed = models.PositiveIntegerField(_("replayed"), default=0)
    skipped = models.PositiveIntegerField(_("skipped"), default=0)
    #: The last delivery that was looked at, and the last one there was in the beginning.
    cursor = models.UUIDField(null=True, blank=True, editable=False)
    last_id = models.UUIDField(editable=False)
    next_at = UTCDateTimeField(null=True, blank=True, default=times.now, editable=False)
    created_at = UTCDateTimeField(_("created"), default=times.now)
    finished_at = UTCDateTimeField(_("finished"), null=True, blank=True)

    objects = BulkReplayQuerySet.as_manager()

    if TYPE_CHECKING:
        deliveries: RelatedManager[Delivery]
        endpoint_id: UUID | None

    class Meta:
        verbose_name = _("bulk replay")
        verbose_name_plural = _("bulk replays")
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(rate__gte=1), name="webhooks_bulk_replay_rate"
            )
        ]

    def __str__(self) -> str:
        return self.reason

    @property
    def is_over(self) -> bool:
        """Whether nothing more will be replayed."""
        return self.status != self.Status.RUNNING

    @property
    def processed(self) -> int:
        """How many of the selected deliveries have been looked at."""
        return self.replayed + self.skipped

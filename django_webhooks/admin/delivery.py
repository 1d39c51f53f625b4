"""Deliveries: where each event is on its way, and why."""

from __future__ import annotations

from functools import partial

from django.contrib import admin, messages
from django.contrib.auth import get_permission_codename
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from .. import tasks
from ..models import Delivery
from ..sending import replay
from .attempt import AttemptInline
from .filters import DeliveryEventTypeFilter
from .mixins import RecordAdmin


@admin.register(Delivery)
class DeliveryAdmin(RecordAdmin):
    """Look at deliveries, and send again what is over."""

    actions = ["replay_deliveries"]
    list_display = [
        "message_id",
        "event_type",
        "subscription",
        "status",
        "attempts_made",
        "reason",
        "due_at",
        "created_at",
    ]
    list_filter = ["status", DeliveryEventTypeFilter]
    list_select_related = ["event", "subscription"]
    search_fields = ["subscription__name"]
    search_help_text = _("Message id (msg_…) or name of a subscription.")
    event_key = "event_id"
    fields = readonly_fields = (
        "explanation",
        "event",
        "subscription",
        "status",
        "reason",
        "attempts_made",
        "due_at",
        "created_at",
        "finished_at",
        "replay_of",
    )
    inlines = [AttemptInline]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Delivery]:
        """Leave the bodies where they are."""
        related = super().get_queryset(request).select_related("event", "subscription")
        return related.defer("event__body")

    def has_replay_permission(self, request: HttpRequest) -> bool:
        """Say whether the user may send again; the rows themselves are never changed."""
        codename = get_permission_codename("change", self.opts)
        return request.user.has_perm(f"{self.opts.app_label}.{codename}")

    @admin.display(description=_("what happens"))
    def explanation(self, delivery: Delivery) -> str:
        """What became of it, or why it waits."""
        return delivery.explain()

    @admin.display(description=_("message id"), ordering="pk")
    def message_id(self, delivery: Delivery) -> str:
        """What the receiver sees as webhook-id."""
        return delivery.event.message_id

    @admin.display(description=_("event type"), ordering="event__type")
    def event_type(self, delivery: Delivery) -> str:
        """What happened."""
        return delivery.event.type

    @admin.action(description=_("Replay selected deliveries"), permissions=["replay"])
    def replay_deliveries(self, request: HttpRequest, queryset: QuerySet[Delivery]) -> None:
        """Send the events again, as deliveries of their own."""
        using = queryset.db
        new = replay.replay(queryset, using=using)
        ids = [str(delivery.pk) for delivery in new if delivery.due_at is not None]
        if ids:
            transaction.on_commit(partial(tasks.wake, ids), using=using)
        count, left_out = len(new), queryset.count() - len(new)
        self.message_user(
            request,
            ngettext("%(count)d delivery replayed.", "%(count)d deliveries replayed.", count)
            % {"count": count},
            messages.SUCCESS if count else messages.WARNING,
        )
        if left_out:
            self.message_user(
                request,
                ngettext(
                    "%(count)d delivery was left out, because its event still waits for this "
                    "subscription, or the subscription is gone.",
                    "%(count)d deliveries were left out, because their events still wait for "
                    "these subscriptions, or the subscriptions are gone.",
                    left_out,
                )
                % {"count": left_out},
                messages.WARNING,
            )

"""Events: what happened, with the body that is sent."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from .. import audit_log, wakeups
from ..models import Event
from ..sending import database
from . import answers, timeline
from .filters import EventTypeFilter, FanOutFilter
from .mixins import RecordAdmin, needs, permitted
from .times import moment_column

#: Events that the audit trail names one by one.
NAMED = 200


@admin.register(Event)
class EventAdmin(RecordAdmin):
    """Look at events."""

    empty_list = _("Nothing happened yet. Events appear here once the project emits them.")

    actions = ["fan_out_again"]
    list_display = ["message_id", "type", "fanned_out", "recorded", "owner_name"]
    sortable_by = ["message_id"]
    list_filter = [EventTypeFilter, FanOutFilter]
    search_fields = ["idempotency_key__exact"]
    search_help_text = _("Message id (msg_…) or idempotency key.")
    fields = readonly_fields = (
        "message_id",
        "type",
        "owner_name",
        "idempotency_key",
        "ordering_key",
        "recorded",
        "explained",
        "trace_parent",
        "sent",
    )

    # Users who may replay deliveries may have the missing ones made.
    has_replay_permission = needs("replay_delivery")
    recorded = moment_column(_("recorded"), "created_at", ordering="pk")

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Show the body to those who may see payloads."""
        found = super().get_fields(request, obj)
        hidden = () if permitted(request, "view_payload") else ("sent",)
        return [one for one in found if one not in hidden]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Event]:
        """Leave the bodies where they are."""
        return super().get_queryset(request).defer("body")

    @admin.action(description=_("Fan out selected events again"), permissions=["replay"])
    def fan_out_again(self, request: HttpRequest, queryset: QuerySet[Event]) -> None:
        """Let workers make the deliveries of those that failed, or that nobody listened to."""
        using = database.alias()
        keys = list(queryset.order_by().values_list("pk", flat=True))
        count = Event.objects.using(using).filter(pk__in=keys).fan_out_again()
        if count:
            audit_log.log(
                "events.fanned_out_again",
                using=using,
                by=request.user.get_username(),
                events=[str(key) for key in keys[:NAMED]],
                count=count,
            )
            wakeups.wake()
        message = ngettext(
            "%(count)d event is fanned out again.", "%(count)d events are fanned out again.", count
        )
        answers.tell(self, request, message, count)

    @admin.display(description=_("fan-out"))
    def fanned_out(self, event: Event) -> Any:
        """How far its fan-out is."""
        return gettext("Done") if event.fan_out is None else event.get_fan_out_display()

    @admin.display(description=_("fan-out"))
    def explained(self, event: Event) -> str:
        """How far its fan-out is, in a sentence."""
        return event.explain()

    @admin.display(description=_("message id"), ordering="pk")
    def message_id(self, event: Event) -> str:
        """The ``webhook-id`` that receivers see."""
        return event.message_id

    @admin.display(description=_("owner"), empty_value="-")
    def owner_name(self, event: Event) -> str:
        """The model and the key of its owner."""
        return f"{event.owner_type} {event.owner_id}".strip()

    @admin.display(description=_("body"))
    def sent(self, event: Event) -> str:
        """The body, easier to read than it is sent."""
        return format_html("<pre>{}</pre>", timeline.pretty(bytes(event.body)))

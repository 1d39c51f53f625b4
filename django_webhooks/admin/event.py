"""Events: what happened, with the body that is sent."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from ..models import Event
from . import timeline
from .filters import EventTypeFilter
from .mixins import RecordAdmin, permitted
from .moments import moment


@admin.register(Event)
class EventAdmin(RecordAdmin):
    """Look at events."""

    empty_list = _("Nothing happened yet. Events appear here once the project emits them.")

    list_display = ["message_id", "type", "owner_name", "recorded"]
    sortable_by = ["message_id"]
    list_filter = [EventTypeFilter]
    search_fields = ["idempotency_key__exact"]
    search_help_text = _("Message id (msg_…) or idempotency key.")
    fields = readonly_fields = (
        "message_id",
        "type",
        "owner_name",
        "idempotency_key",
        "ordering_key",
        "recorded",
        "trace_parent",
        "sent",
    )

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Show the body to those who may see payloads."""
        found = super().get_fields(request, obj)
        hidden = () if permitted(request, "view_payload") else ("sent",)
        return [one for one in found if one not in hidden]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Event]:
        """Leave the bodies where they are."""
        return super().get_queryset(request).defer("body")

    @admin.display(description=_("message id"), ordering="pk")
    def message_id(self, event: Event) -> str:
        """What receivers see as webhook-id."""
        return event.message_id

    @admin.display(description=_("owner"), empty_value="-")
    def owner_name(self, event: Event) -> str:
        """Whose it is."""
        return f"{event.owner_type} {event.owner_id}".strip()

    @admin.display(description=_("body"))
    def sent(self, event: Event) -> str:
        """The body, easier to read than it is sent."""
        return format_html("<pre>{}</pre>", timeline.pretty(bytes(event.body)))

    @admin.display(description=_("recorded"), ordering="pk")
    def recorded(self, event: Event) -> Any:
        """When it was recorded."""
        return moment(event.created_at)

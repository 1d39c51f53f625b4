"""Events: what happened, with the body that is sent."""

from __future__ import annotations

import json

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from ..models import Event
from .filters import EventTypeFilter
from .mixins import RecordAdmin


@admin.register(Event)
class EventAdmin(RecordAdmin):
    """Look at events."""

    list_display = ["message_id", "type", "owner_name", "created_at"]
    list_filter = [EventTypeFilter]
    search_fields = ["idempotency_key__exact"]
    search_help_text = _("Message id (msg_…) or idempotency key.")
    fields = readonly_fields = (
        "message_id",
        "type",
        "owner_name",
        "idempotency_key",
        "created_at",
        "sent",
    )

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
        text = json.dumps(event.payload, ensure_ascii=False, indent=2)
        return format_html("<pre>{}</pre>", text)

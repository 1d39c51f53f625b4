"""Attempts: each request, and what the receiver answered."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from ..models import Attempt
from .mixins import RecordAdmin


@admin.register(Attempt)
class AttemptAdmin(RecordAdmin):
    """Look at attempts."""

    list_display = [
        "started_at",
        "delivery",
        "number",
        "endpoint_host",
        "outcome",
        "status_code",
        "reason",
        "duration_ms",
    ]
    list_display_links = ["started_at"]
    list_filter = ["outcome"]
    list_select_related = ["delivery"]
    search_fields = ["endpoint_host__exact"]
    search_help_text = _("Message id (msg_…) or host.")
    event_key = "delivery__event_id"
    fields = readonly_fields = (
        "delivery",
        "number",
        "started_at",
        "duration_ms",
        "endpoint_host",
        "outcome",
        "status_code",
        "reason",
        "detail",
        "is_late",
        "response_headers",
        "response_body",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Attempt]:
        """Leave the answers where they are."""
        return super().get_queryset(request).defer("response_body", "response_headers")


class AttemptInline(admin.TabularInline):  # type: ignore[type-arg]  # generic for type checkers alone
    """The attempts of a delivery."""

    model = Attempt
    extra = 0
    ordering = ["pk"]
    show_change_link = True
    fields = readonly_fields = (
        "number",
        "started_at",
        "duration_ms",
        "endpoint_host",
        "outcome",
        "status_code",
        "reason",
        "detail",
    )

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Nobody: the app writes them."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Nobody: they say what happened."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Nobody: they go with their delivery."""
        return False

"""Attempts: each request, and what the receiver answered."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from ..models import Attempt
from . import parts
from .mixins import MaskedHosts, RecordAdmin

MASKS = {"endpoint_host": "masked_host", "detail": "masked_detail"}


@admin.display(description=_("host"))
def masked_host(admin: Any, attempt: Attempt) -> str:
    """Enough of the host to tell it from others."""
    return parts.masked(attempt.endpoint_host)


@admin.display(description=_("detail"))
def masked_detail(admin: Any, attempt: Attempt) -> str:
    """Nothing: it may quote the host, or where a redirect leads."""
    return "…" if attempt.detail else ""


@admin.register(Attempt)
class AttemptAdmin(MaskedHosts, RecordAdmin):
    """Look at attempts."""

    masks = MASKS

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

    masked_host, masked_detail = masked_host, masked_detail

    def get_queryset(self, request: HttpRequest) -> QuerySet[Attempt]:
        """Leave the answers where they are."""
        return super().get_queryset(request).defer("response_body", "response_headers")


class AttemptInline(MaskedHosts, admin.TabularInline):  # type: ignore[type-arg]  # generic for type checkers alone
    """The attempts of a delivery."""

    model = Attempt
    masks = MASKS
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

    masked_host, masked_detail = masked_host, masked_detail

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Nobody: the app writes them."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Nobody: they say what happened."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Nobody: they go with their delivery."""
        return False

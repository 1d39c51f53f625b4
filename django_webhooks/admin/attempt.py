"""Attempts: each request, and what the receiver answered."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from ..models import Attempt
from . import badges, html, links
from .mixins import MaskedHosts, RecordAdmin, permitted
from .times import moment_column

MASKS = {"endpoint_host": "masked_host", "detail": "masked_detail"}


@admin.display(description=_("host"))
def masked_host(admin: Any, attempt: Attempt) -> str:
    """Enough of the host to tell it from others."""
    return html.masked(attempt.endpoint_host)


@admin.display(description=_("detail"))
def masked_detail(admin: Any, attempt: Attempt) -> str:
    """Nothing: it may quote the host, or where a redirect leads."""
    return "…" if attempt.detail else ""


@admin.register(Attempt)
class AttemptAdmin(MaskedHosts, RecordAdmin):
    """Look at attempts."""

    empty_list = _("Nothing was sent yet. Each request to an endpoint appears here.")

    masks = MASKS
    owner_path = "delivery__subscription__"
    sortable_by = ["started"]
    list_display = [
        "started",
        "result",
        "endpoint_host",
        "number",
        "duration_ms",
        "delivery_link",
    ]
    list_display_links = ["started"]
    list_filter = ["outcome"]
    list_select_related = ["delivery"]
    search_fields = ["endpoint_host__exact"]
    search_help_text = _("Message id (msg_…) or host.")
    event_key = "delivery__event_id"
    fields = readonly_fields = (
        "delivery",
        "number",
        "started",
        "duration_ms",
        "endpoint_host",
        "outcome",
        "status_code",
        "meaning",
        "detail",
        "is_late",
        "answer",
    )

    masked_host, masked_detail = masked_host, masked_detail
    started = moment_column(_("started"), "started_at", ordering="pk")

    @admin.display(description=_("reason"), empty_value="-")
    def meaning(self, attempt: Attempt) -> str:
        """Why it failed: the code, and what it means."""
        return html.reason(attempt.reason)

    @admin.display(description=_("outcome"))
    def result(self, attempt: Attempt) -> Any:
        """The outcome and its reason, in one badge."""
        why = attempt.reason or str(attempt.status_code or "")
        return badges.status(attempt.outcome, badges.because(attempt.get_outcome_display(), why))

    @admin.display(description=_("delivery"))
    def delivery_link(self, attempt: Attempt) -> Any:
        """The delivery that it was made for, by the end of its message id."""
        shown = f"msg_…{attempt.delivery.message_id[-12:]}"
        return links.link(self.admin_site, "delivery", attempt.delivery_id, shown)

    @admin.display(description=_("answer"))
    def answer(self, attempt: Attempt) -> str:
        """The answer of the receiver, inert."""
        headers = "\n".join(f"{name}: {value}" for name, value in attempt.response_headers.items())
        return format_html("<pre>{}\n\n{}</pre>", headers, attempt.response_body)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Show answers to those who may see payloads."""
        found = super().get_fields(request, obj)
        hidden = () if permitted(request, "view_payload") else ("answer",)
        return [one for one in found if one not in hidden]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Attempt]:
        """Leave the answers where they are."""
        return super().get_queryset(request).defer("response_body", "response_headers")

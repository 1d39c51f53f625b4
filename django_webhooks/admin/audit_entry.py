"""The audit trail: who did what, to be looked at only."""

from __future__ import annotations

import json
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from ..models import AuditEntry
from . import scope
from .mixins import RecordAdmin
from .moments import moment


@admin.register(AuditEntry)
class AuditEntryAdmin(RecordAdmin):
    """Look at what was done."""

    list_display = ["when", "by", "action", "subject"]
    search_fields = ["by__exact", "action__startswith", "subject_id__exact", "subject"]
    search_help_text = _("Who, what (such as endpoint.pinned), or the key or name of a row.")
    sortable_by = ["when"]
    fields = readonly_fields = (
        "when",
        "by",
        "action",
        "subject_type",
        "subject_id",
        "subject",
        "what",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[AuditEntry]:
        """Show who is limited to some owners what they did themselves."""
        rows: QuerySet[AuditEntry] = admin.ModelAdmin.get_queryset(self, request)
        if scope.owners(request) is not None:
            rows = rows.filter(by=request.user.get_username())
        return rows

    @admin.display(description=_("when"), ordering="pk")
    def when(self, entry: AuditEntry) -> Any:
        """When it was done."""
        return moment(entry.created_at)

    @admin.display(description=_("detail"))
    def what(self, entry: AuditEntry) -> str:
        """What there is to know."""
        text = json.dumps(entry.detail, ensure_ascii=False, indent=2)
        return format_html("<pre>{}</pre>", text)

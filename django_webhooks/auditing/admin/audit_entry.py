"""The audit trail: who did what, to be looked at only."""

from __future__ import annotations

import json
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from ...admin import badges, scope
from ...admin.mixins import RecordAdmin
from ...admin.times import moment, moment_column
from ...sending import database
from .. import rendering
from ..models import AuditEntry, AuditHead, AuditReport


@admin.register(AuditEntry)
class AuditEntryAdmin(RecordAdmin):
    """Look at what was done."""

    change_list_template = "admin/django_webhooks_auditing/audit_trail.html"
    list_display = ["number", "when", "by", "action", "subject", "short_digest"]
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
        "number",
        "anchor",
    )

    when = moment_column(_("when"), "created_at", ordering="pk")

    def get_queryset(self, request: HttpRequest) -> QuerySet[AuditEntry]:
        """Show who is limited to some owners what they did themselves."""
        rows: QuerySet[AuditEntry] = admin.ModelAdmin.get_queryset(self, request)
        if scope.owners(request) is not None:
            rows = rows.filter(by=request.user.get_username())
        return rows

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """List them, with the state of the chain for those who see all of it."""
        using = database.alias()
        context = extra_context or {}
        if scope.owners(request) is None:
            head = AuditHead.objects.using(using).first()
            last = AuditReport.objects.using(using).latest_first().first()
            context = {
                "head": head,
                "seal": head and _seal(head),
                "verified": last and moment(last.created_at),
                "verdict": last and rendering.chain(last),
                **context,
            }
        return super().changelist_view(request, context)

    @admin.display(description=_("number"), ordering="sequence", empty_value="-")
    def number(self, entry: AuditEntry) -> int | None:
        """Its place in the chain."""
        return entry.sequence

    @admin.display(description=_("digest"))
    def short_digest(self, entry: AuditEntry) -> str:
        """The beginning of its digest."""
        return f"{entry.digest[:8]}…" if entry.digest else "-"

    @admin.display(description=_("anchor"))
    def anchor(self, entry: AuditEntry) -> str:
        """Number and digest, as they are logged."""
        return f"{entry.sequence}:{entry.digest}" if entry.digest else "-"

    @admin.display(description=_("detail"))
    def what(self, entry: AuditEntry) -> str:
        """The detail, as JSON in lines."""
        text = json.dumps(entry.detail, ensure_ascii=False, indent=2)
        return format_html("<pre>{}</pre>", text)


def _seal(head: AuditHead) -> Any:
    """Return whether the head's seal holds, as a badge."""
    words = {
        True: ("healthy", _("The seal holds")),
        False: ("unhealthy", _("The seal is broken")),
        None: ("trial", _("The key of the seal is gone")),
    }
    kind, word = words[head.is_genuine]
    return badges.badge(kind, str(word))

"""Accepted findings: what does not count in audits, until when, and why."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from ...admin import scope
from ...admin.mixins import RecordAdmin
from ...admin.times import moment_column
from ..models import AcceptedFinding


@admin.register(AcceptedFinding)
class AcceptedFindingAdmin(RecordAdmin):
    """Look at them; they are accepted and withdrawn on the pages of reports."""

    list_display = ["finding", "subject", "reason", "by", "ends"]
    search_fields = ["finding__exact", "subject", "reason"]
    sortable_by = ["finding", "ends"]
    fields = readonly_fields = ("finding", "subject", "reason", "by", "accepted", "ends")

    accepted = moment_column(_("accepted"), "created_at")
    ends = moment_column(_("until"), "until", ordering="until")

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return whether the user has the permission, and sees all owners."""
        return scope.owners(request) is None and super().has_view_permission(request, obj)

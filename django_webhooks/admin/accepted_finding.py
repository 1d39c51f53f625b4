"""Accepted findings: what does not count in audits, until when, and why."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from ..models import AcceptedFinding
from . import scope
from .mixins import RecordAdmin
from .moments import moment


@admin.register(AcceptedFinding)
class AcceptedFindingAdmin(RecordAdmin):
    """Look at them; they are accepted and withdrawn on the pages of reports."""

    list_display = ["finding", "subject", "reason", "by", "ends"]
    search_fields = ["finding__exact", "subject", "reason"]
    sortable_by = ["finding", "ends"]
    fields = readonly_fields = ("finding", "subject", "reason", "by", "accepted", "ends")

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Those with the permission who see all owners."""
        return scope.owners(request) is None and super().has_view_permission(request, obj)

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Show it in the index to those who may see it."""
        return self.has_view_permission(request)

    @admin.display(description=_("accepted"))
    def accepted(self, one: AcceptedFinding) -> Any:
        """When it was accepted."""
        return moment(one.created_at)

    @admin.display(description=_("until"), ordering="until")
    def ends(self, one: AcceptedFinding) -> Any:
        """When it counts again."""
        return moment(one.until)

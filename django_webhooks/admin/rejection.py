"""Rejected requests: how many, by whom they were refused, why, and from where."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from ..models import Rejection
from . import scope
from .mixins import RecordAdmin
from .moments import moment


@admin.register(Rejection)
class RejectionAdmin(RecordAdmin):
    """Look at what was refused."""

    list_display = ["hour", "count", "reason", "from_network", "source"]
    empty_list = _("No request was refused. Refused ones are counted here.")
    list_filter = ["reason"]
    search_fields = ["source", "network__startswith"]
    search_help_text = _("Name of a view, or the beginning of a network.")
    sortable_by = ["hour", "count"]
    fields = readonly_fields = ("hour", "source", "reason", "from_network", "count", "last")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Rejection]:
        """Show nothing to who is limited to some owners: who was refused has none."""
        rows: QuerySet[Rejection] = admin.ModelAdmin.get_queryset(self, request)
        return rows if scope.owners(request) is None else rows.none()

    @admin.display(description=_("hour"), ordering="period")
    def hour(self, row: Rejection) -> Any:
        """When the hour began."""
        return moment(row.period)

    @admin.display(description=_("network"))
    def from_network(self, row: Rejection) -> Any:
        """Where they came from."""
        return row.network or _("all others")

    @admin.display(description=_("last"))
    def last(self, row: Rejection) -> Any:
        """When the last one was counted."""
        return moment(row.last_at)

"""Rejected requests: how many, by whom they were refused, why, and from where."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from ...admin import scope
from ...admin.mixins import RecordAdmin
from ...admin.times import moment_column
from ..models import Rejection


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

    hour = moment_column(_("hour"), "period", ordering="period")
    last = moment_column(_("last"), "last_at")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Rejection]:
        """Show nothing to who is limited to some owners: who was refused has none."""
        rows: QuerySet[Rejection] = admin.ModelAdmin.get_queryset(self, request)
        return rows if scope.owners(request) is None else rows.none()

    @admin.display(description=_("network"))
    def from_network(self, row: Rejection) -> Any:
        """The network that they came from."""
        return row.network or _("all others")

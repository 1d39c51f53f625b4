"""Network lists: who may call, as senders publish it."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from ...admin.mixins import RecordAdmin
from ...admin.times import moment_column
from ..models import NetworkList


@admin.register(NetworkList)
class NetworkListAdmin(RecordAdmin):
    """Look at what ``webhooks_networks`` loaded."""

    list_display = ["name", "number", "origin", "loaded"]
    empty_list = _("No list was loaded yet; manage.py webhooks_networks loads them.")
    search_fields = ["name"]
    sortable_by = ["name"]
    fields = readonly_fields = ("name", "origin", "loaded", "all_networks")

    loaded = moment_column(_("loaded"), "loaded_at")

    def get_queryset(self, request: HttpRequest) -> QuerySet[NetworkList]:
        """All of them: they belong to nobody."""
        rows: QuerySet[NetworkList] = admin.ModelAdmin.get_queryset(self, request)
        return rows

    @admin.display(description=_("number of networks"))
    def number(self, row: NetworkList) -> int:
        """How many there are."""
        return len(row.networks)

    @admin.display(description=_("networks"))
    def all_networks(self, row: NetworkList) -> Any:
        """One a line."""
        return format_html("<pre>{}</pre>", "\n".join(row.networks))

"""What several admins share: records that nobody edits, and search by message id."""

from __future__ import annotations

import uuid
from typing import Any

from django.contrib import admin
from django.db.models import Model, QuerySet
from django.http import HttpRequest


class RecordAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # generic for type checkers alone
    """Rows that say what happened: to be looked at, neither added, changed nor deleted."""

    show_full_result_count = False
    list_per_page = 50
    #: Path to the event's key, for the search by message id.
    event_key = "pk"

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody: the app writes them."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Nobody: they say what happened."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Nobody: ``webhooks_prune`` removes them."""
        return False

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Find by message id (``msg_…``), by the record's own id, or by ``search_fields``."""
        term = search_term.strip()
        key = _uuid(term.removeprefix("msg_"))
        if key is None:
            return super().get_search_results(request, queryset, search_term)
        path = self.event_key if term.startswith("msg_") else "pk"
        return queryset.filter(**{path: key}), False


def _uuid(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None

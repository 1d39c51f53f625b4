"""Filters of lists."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from .. import catalog


class EventTypeFilter(admin.SimpleListFilter):
    """The event types of the catalog, which costs no query."""

    title = _("event type")
    parameter_name = "event_type"
    #: Path to the type of the event.
    path = "type"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Offer what was declared."""
        return [(one.name, one.name) for one in catalog.all()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Keep the events of the type."""
        value = self.value()
        return queryset.filter(**{self.path: value}) if value else queryset


class DeliveryEventTypeFilter(EventTypeFilter):
    """The same, for deliveries."""

    path = "event__type"

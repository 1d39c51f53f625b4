"""Filters of lists, and the selection that those of the deliveries' list amount to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from .. import catalog, times
from ..models import Delivery, Event, Subscription
from ..policies.reasons import HttpReason, Reason
from ..sending import database
from ..sending.replays import ARRIVED, NOT_ARRIVED, Selection
from . import scope
from .scope import key_of
from .times import exactly, written

#: Subscriptions that are offered at the most; others are found by their name.
OFFERED = 50

RANGES = {
    "1h": (_("Last hour"), timedelta(hours=1)),
    "24h": (_("Last 24 hours"), timedelta(days=1)),
    "7d": (_("Last 7 days"), timedelta(days=7)),
    "30d": (_("Last 30 days"), timedelta(days=30)),
}

#: All reasons, and the statuses that are usual.
REASONS = [
    *Reason,
    *(HttpReason(status) for status in (400, 401, 403, 404, 410, 429, 500, 502, 503, 504)),
]


#: Values of the field ``replayed`` of a selection, in words.
REPLAYED = [
    (NOT_ARRIVED, _("Given up, and not arrived since")),
    (ARRIVED, _("Arrived by a replay")),
]


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
        if value and "\x00" in value:
            raise IncorrectLookupParameters
        return queryset.filter(**{self.path: value}) if value else queryset


class FanOutFilter(admin.SimpleListFilter):
    """Events whose deliveries are not all made; one index holds them all."""

    title = _("fan-out")
    parameter_name = "fan_out"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        """Offer what an event may wait in."""
        return [(str(value), name) for value, name in Event.FanOut.choices]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Keep the events that are there."""
        value = self.value()
        known = {str(one) for one in Event.FanOut.values}
        return queryset.filter(fan_out=int(value)) if value in known else queryset


class SelectionFilter(admin.SimpleListFilter):
    """One field of a selection of deliveries."""

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Keep the deliveries that the field selects."""
        value = self.value()
        if not value:
            return queryset
        try:
            narrowed = selection({str(self.parameter_name): value})
            return queryset & narrowed.deliveries(using=queryset.db)
        except ValueError as error:
            raise IncorrectLookupParameters(str(error)) from None


class StatusFilter(SelectionFilter):
    """The status of deliveries."""

    title = _("status")
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        """Offer each status."""
        return Delivery.Status.choices


class ReplayedFilter(SelectionFilter):
    """Whether the event of what was given up arrived after all."""

    title = _("replays")
    parameter_name = "replayed"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        """Offer both."""
        return REPLAYED


class DeliveryEventTypeFilter(SelectionFilter):
    """The event types of the catalog."""

    title = _("event type")
    parameter_name = "event_type"
    lookups = EventTypeFilter.lookups


class SubscriptionFilter(SelectionFilter):
    """The subscriptions, as far as a list can be read."""

    title = _("subscription")
    parameter_name = "subscription"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Offer the first by name, and the one that was asked for."""
        rows = scope.narrow(request, Subscription.objects.using(database.alias()))
        found = [(str(key), name) for key, name in rows.values_list("pk", "name")[:OFFERED]]
        asked = request.GET.get(str(self.parameter_name), "")
        if (key := key_of(asked)) is not None and str(key) not in dict(found):
            others = rows.filter(pk=key).values_list("pk", "name")
            found += [(str(key), name) for key, name in others]
        return found


class _EnteredFilter(SelectionFilter):
    """A value that is entered rather than chosen."""

    template = "admin/django_webhooks/entered_filter.html"
    kind = "text"
    #: What is usual.
    suggestions: Sequence[str] = ()

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Offer nothing: the page has a field."""
        return [("", "")]

    @property
    def is_moment(self) -> bool:
        """Say whether it is a moment, which the browser tells in a zone of its own."""
        return self.kind == "datetime-local"

    def choices(self, changelist: Any) -> Any:
        """Return what the field needs: the other parameters of the page, and the value."""
        others = changelist.get_filters_params()
        yield {
            "others": [
                (name, value)
                for name, values in others.items()
                if name != self.parameter_name
                for value in (values if isinstance(values, list) else [values])
            ],
            "parameter": self.parameter_name,
            "value": written(self.value()) if self.is_moment else self.value() or "",
            "exact": exactly(self.value()) if self.is_moment else "",
            "is_moment": self.is_moment,
            "kind": self.kind,
            "suggestions": self.suggestions,
            "query": changelist.get_query_string(remove=[self.parameter_name]),
        }


class ReasonFilter(_EnteredFilter):
    """Why the last attempt failed, or why it is over."""

    title = _("reason")
    parameter_name = "reason"
    suggestions = REASONS


class StatusCodeFilter(_EnteredFilter):
    """The status of the last answer."""

    title = _("status code")
    parameter_name = "status_code"
    kind = "number"


class HostFilter(_EnteredFilter):
    """The host and port of an endpoint that was tried."""

    title = _("host")
    parameter_name = "host"


class EndpointFilter(_EnteredFilter):
    """An endpoint that was tried, by its key: the page of an endpoint leads here."""

    title = _("endpoint")
    parameter_name = "endpoint"

    def has_output(self) -> bool:
        """Show it where it is used."""
        return bool(self.value())


class BulkReplayFilter(EndpointFilter):
    """The bulk replay that made them: its page leads here."""

    title = _("bulk replay")
    parameter_name = "bulk_replay"


class SinceFilter(_EnteredFilter):
    """From when on."""

    title = _("recorded since")
    parameter_name = "since"
    kind = "datetime-local"


class UntilFilter(_EnteredFilter):
    """Until when."""

    title = _("recorded before")
    parameter_name = "until"
    kind = "datetime-local"


class FinishedSinceFilter(SinceFilter):
    """From when on it was over."""

    title = _("finished since")
    parameter_name = "finished_since"


class FinishedUntilFilter(UntilFilter):
    """Until when it was over."""

    title = _("finished before")
    parameter_name = "finished_until"


class RecentFilter(admin.SimpleListFilter):
    """How long ago it was recorded."""

    title = _("recorded")
    parameter_name = "recent"
    #: The field of the selection that it sets.
    since = "since"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        """Offer ranges that end now."""
        return [(key, name) for key, (name, _range) in RANGES.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Keep what is not older."""
        value = self.value()
        if value not in RANGES:
            return queryset
        narrowed = Selection.of({self.since: times.now() - RANGES[value][1]})
        return queryset & narrowed.deliveries(using=queryset.db)


class RecentlyFinishedFilter(RecentFilter):
    """How long ago it was over: arrived, given up or cancelled."""

    title = _("finished")
    parameter_name = "finished"
    since = "finished_since"


#: Filters that name a range ending now: the parameter, and the field of the selection.
RECENT = {one.parameter_name: one.since for one in (RecentFilter, RecentlyFinishedFilter)}


#: Parameters of the deliveries' list that are fields of a selection: all that can be typed.
FIELDS = tuple(one.name for one in fields(Selection) if one.name not in ("ids", "owners"))


def selection(params: Mapping[str, Any]) -> Selection:
    """Return the selection that the parameters of the list's page amount to.

    Raise ValueError for malformed ones.
    """
    values = {name: params[name] for name in FIELDS if params.get(name)}
    found = Selection.of(values)
    for parameter, name in RECENT.items():
        if params.get(parameter) in RANGES:
            since = times.now() - RANGES[str(params[parameter])][1]
            # The list keeps to both.
            changed: dict[str, Any] = {name: max(since, getattr(found, name) or since)}
            found = replace(found, **changed)
    return found

"""Listening: the event types of a subscription, as a list of patterns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, cast

from django.db import models

from ..audit_log import without_audit
from ..validators import validate_pattern

if TYPE_CHECKING:
    from django.db.models.fields.related_descriptors import RelatedManager

    from .event_type_pattern import EventTypePattern
    from .subscription import Subscription


class EventTypesMixin(models.Model):
    """A listener to event types; ``save()`` has to store the patterns that were set."""

    if TYPE_CHECKING:
        patterns: RelatedManager[EventTypePattern]

    class Meta:
        abstract = True

    @property
    def event_types(self) -> list[str]:
        """The patterns of event types it listens to; set before ``save()`` to change them."""
        if "_event_types" in self.__dict__:
            return list(self.__dict__["_event_types"])
        return sorted(row.pattern for row in self.patterns.all())

    @event_types.setter
    def event_types(self, patterns: Sequence[str]) -> None:
        if isinstance(patterns, str):
            raise TypeError("event_types is a list of patterns, such as ['order.*'].")
        self.__dict__["_event_types"] = _checked(patterns)

    def store_event_types(self, *, using: str) -> None:
        """Save the patterns, where they were set."""
        patterns: list[str] | None = self.__dict__.pop("_event_types", None)
        if patterns is None:
            return
        subscription, pattern_model = cast("Subscription", self), self.patterns.model
        rows = pattern_model.objects.using(using)
        with without_audit():
            rows.filter(subscription=subscription).exclude(pattern__in=patterns).delete()
        known = set(rows.filter(subscription=subscription).values_list("pattern", flat=True))
        rows.bulk_create(
            pattern_model(subscription=subscription, pattern=pattern)
            for pattern in patterns
            if pattern not in known
        )
        getattr(self, "_prefetched_objects_cache", {}).pop("patterns", None)


def _checked(patterns: Iterable[str]) -> list[str]:
    unique = list(dict.fromkeys(patterns))
    for pattern in unique:
        validate_pattern(pattern)
    return unique

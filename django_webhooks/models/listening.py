"""Listening: the event types of a subscription, as a list of patterns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, cast

from django.db import models

from ..validators import validate_pattern
from .audited import unnoted

if TYPE_CHECKING:
    from django.db.models.fields.related_descriptors import RelatedManager

    from .event_type_pattern import EventTypePattern
    from .subscription import Subscription


class Listening(models.Model):
    """What listens to event types; ``save()`` has to store what was set."""

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
        from .event_type_pattern import EventTypePattern  # it refers to subscriptions

        patterns: list[str] | None = self.__dict__.pop("_event_types", None)
        if patterns is None:
            return
        subscription = cast("Subscription", self)
        rows = EventTypePattern.objects.using(using)
        with unnoted():
            rows.filter(subscription=subscription).exclude(pattern__in=patterns).delete()
        known = set(rows.filter(subscription=subscription).values_list("pattern", flat=True))
        rows.bulk_create(
            EventTypePattern(subscription=subscription, pattern=pattern)
            for pattern in patterns
            if pattern not in known
        )
        getattr(self, "_prefetched_objects_cache", {}).pop("patterns", None)


def _checked(patterns: Iterable[str]) -> list[str]:
    unique = list(dict.fromkeys(patterns))
    for pattern in unique:
        validate_pattern(pattern)
    return unique

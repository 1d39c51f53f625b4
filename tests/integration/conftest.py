"""Event types that the tests of this folder emit."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from django_webhooks import catalog, signals
from django_webhooks.models import Event

EVENT_TYPES = ("order.paid", "order.item.added", "user.joined")


@pytest.fixture(autouse=True)
def _event_types() -> Iterator[None]:
    for name in EVENT_TYPES:
        catalog.declare(name)
    yield
    for name in EVENT_TYPES:
        catalog.forget(name)


@pytest.fixture
def heard() -> Iterator[list[Event]]:
    """The events that receivers of event_recorded were given."""
    found = []

    def hear(*, event: Event, **kwargs: object) -> None:
        found.append(event)

    signals.event_recorded.connect(hear)
    yield found
    signals.event_recorded.disconnect(hear)

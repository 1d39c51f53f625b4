"""Event types that the tests of this folder emit."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from django_webhooks import catalog

EVENT_TYPES = ("order.paid", "order.item.added", "user.joined")


@pytest.fixture(autouse=True)
def _event_types() -> Iterator[None]:
    for name in EVENT_TYPES:
        catalog.declare(name)
    yield
    for name in EVENT_TYPES:
        catalog.forget(name)

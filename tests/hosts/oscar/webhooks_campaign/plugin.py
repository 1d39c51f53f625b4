"""A plugin of pytest that counts the events which the tests recorded, in each of its processes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
from django.db import connections

counts: Counter[str] = Counter()


@contextmanager
def uncounted(using: str) -> Iterator[None]:
    """Keep the statements of this block from tests that count theirs: who is heard writes more."""
    connection = connections[using]
    forced, connection.force_debug_cursor = connection.force_debug_cursor, False
    try:
        yield
    finally:
        connection.force_debug_cursor = forced


def _hidden(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def run(*args: Any, using: str, **kwargs: Any) -> Any:
        with uncounted(using):
            return function(*args, using=using, **kwargs)

    return run


@pytest.fixture(autouse=True, scope="session")
def _count_events() -> Any:
    from django_webhooks import events
    from django_webhooks.sending.database import compiled_sql
    from django_webhooks.sending.recording import hearing

    original, row, of_types = events.emit_many, compiled_sql.row, hearing.of_types
    hidden = _hidden(original)

    def emit_many(drafts: Any, *, using: str) -> Any:
        recorded = hidden(drafts, using=using)
        counts.update(event.type for event in recorded if event is not None)
        return recorded

    events.emit_many, compiled_sql.row, hearing.of_types = (
        emit_many,
        _hidden(row),
        _hidden(of_types),
    )
    yield
    events.emit_many, compiled_sql.row, hearing.of_types = original, row, of_types


def pytest_sessionfinish() -> None:
    folder = os.environ.get("WEBHOOKS_CAMPAIGN_COUNTS")
    if folder and counts:
        lines = (f"{count} {name}" for name, count in sorted(counts.items()))
        (Path(folder) / f"{os.getpid()}.txt").write_text("\n".join(lines))

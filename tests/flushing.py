"""Flushing: tables are emptied after a test that commits, which takes longer than most tests.

PostgreSQL makes a new file for each table and index that it truncates, and waits for the disk:
DELETE is quicker where there are a few rows. Content types and permissions stay as they are: Django
would remove them, and make them again, after each such test.
"""

from __future__ import annotations

from typing import Any

from django.core.management.commands import flush

KEPT = {"django_content_type", "auth_permission"}


def be_quick() -> None:
    """Let the command ``flush``, by which the tests empty tables, be quick."""
    flush.sql_flush = _statements
    flush.emit_post_migrate_signal = _say_nothing


def _statements(style: Any, connection: Any, **options: bool) -> list[str]:
    names = connection.introspection.django_table_names(only_existing=True, include_views=False)
    tables = [name for name in names if name not in KEPT]
    if connection.vendor != "postgresql" or options["reset_sequences"]:
        statements: list[str] = connection.ops.sql_flush(style, tables, **options)
        return statements
    return [f"DELETE FROM {connection.ops.quote_name(name)}" for name in tables]


def _say_nothing(*args: Any, **options: Any) -> None:
    """What Django would make anew is still there."""

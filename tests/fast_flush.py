"""Flushing: tables are emptied after a test that commits, which takes longer than most tests.

PostgreSQL makes a new file for each table and index that it truncates, and waits for the disk:
DELETE is quicker where there are a few rows, and leaves their room behind, as a transaction does
that is rolled back. Content types and permissions stay as they are: Django would remove them, and
make them again, after each such test.

A test that is rolled back leaves the room of its rows behind, too: what makes thousands asks for
the fixture ``new_files``, or all that come after it search through what is not there any more.
"""

from __future__ import annotations

from typing import Any

from django.core.management.commands import flush

KEPT = {"django_content_type", "auth_permission"}
#: Bytes of a table from which it is worth a new file.
LARGE = 2_000_000
_LARGEST = """
    SELECT max(pg_relation_size(oid)) FROM pg_class
    WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace
"""


def be_quick() -> None:
    """Let the command ``flush``, by which the tests empty tables, be quick."""
    flush.sql_flush = _statements
    flush.emit_post_migrate_signal = _say_nothing


def _statements(style: Any, connection: Any, **options: bool) -> list[str]:
    tables = _tables(connection)
    if connection.vendor != "postgresql" or options["reset_sequences"] or _is_large(connection):
        statements: list[str] = connection.ops.sql_flush(style, tables, **options)
        return statements
    # Whom deliveries are for is checked at once, all else at the end.
    tables.sort(key=lambda name: name != "django_webhooks_delivery")
    return [f"DELETE FROM {connection.ops.quote_name(name)}" for name in tables]


def take_new_files(connection: Any) -> None:
    """Let the rows of this transaction go into files that go with it, if it is rolled back."""
    if connection.vendor != "postgresql":
        return
    with connection.cursor() as cursor:
        names = ", ".join(connection.ops.quote_name(name) for name in _tables(connection))
        cursor.execute(f"TRUNCATE {names}")


def _tables(connection: Any) -> list[str]:
    names = connection.introspection.django_table_names(only_existing=True, include_views=False)
    return [name for name in names if name not in KEPT]


def _is_large(connection: Any) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(_LARGEST)
        return bool(cursor.fetchone()[0] > LARGE)


def _say_nothing(*args: Any, **options: Any) -> None:
    """What Django would make anew is still there."""

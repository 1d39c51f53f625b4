"""Statements that each save pays for: their text is made once, and used with other values.

Building the text of a query costs Django several times what the database takes to answer it, and
recording an event is done in somebody's request.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from django.db import connections, models
from django.db.models.sql import InsertQuery

#: Texts that are kept at the most.
MAX_KEPT = 200

_Text = tuple[str, tuple[Any, ...]]
_selects: dict[Hashable, _Text | None] = {}
_inserts: dict[Hashable, str | None] = {}


class _Slot(str):
    """Where a value goes in the parameters of a query."""

    __slots__ = ()


def select(
    make: Callable[[Sequence[str]], models.QuerySet[Any, Any]],
    texts: Sequence[str],
    *,
    key: Hashable,
    using: str,
) -> list[Sequence[Any]]:
    """Return the rows, as the database gives them, of the query that ``make`` makes of the texts.

    Queries with the same key and as many texts differ in nothing but the texts.
    """
    shape = (key, len(texts), using)
    if shape not in _selects:
        _keep(_selects, shape, _text_of(make, len(texts), using=using))
    text = _selects[shape]
    if text is None:
        sql, params = make(texts).query.get_compiler(using).as_sql()
    else:
        sql, slots = text
        params = tuple(texts[int(one)] if isinstance(one, _Slot) else one for one in slots)
    with connections[using].cursor() as cursor:
        cursor.execute(sql, params)
        return list(cursor.fetchall())


def insert(row: models.Model, *, using: str) -> None:
    """Insert a new row as ``bulk_create`` does: its key is known and no signal is sent."""
    connection = connections[using]
    fields = [one for one in row._meta.concrete_fields if not one.generated]
    values = [field.pre_save(row, add=True) for field in fields]
    are_computed = tuple(hasattr(value, "resolve_expression") for value in values)
    params = [
        field.get_db_prep_save(value, connection)
        for field, value, is_computed in zip(fields, values, are_computed, strict=True)
        if not is_computed
    ]
    shape = (type(row), are_computed, using)
    if shape not in _inserts:
        _keep(_inserts, shape, _insert_of(row, fields, params, using=using))
    sql = _inserts[shape]
    if sql is None:
        type(row)._base_manager.using(using).bulk_create([row])
        return
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
    row._state.adding, row._state.db = False, using


def insert_all(rows: Sequence[models.Model], *, using: str) -> None:
    """Insert new rows of one model, which have no columns of bytes, as ``bulk_create`` does.

    PostgreSQL takes them as one JSON text, which costs a third of a parameter for each value.
    """
    connection = connections[using]
    if connection.vendor != "postgresql" or len(rows) < 2:
        type(rows[0])._base_manager.using(using).bulk_create(rows)
        return
    meta = rows[0]._meta
    fields = [(one.column, one.attname) for one in meta.concrete_fields if not one.generated]
    # What JSON has no word for (ids, moments) is a text there, as in the database's own words.
    values = [{column: getattr(row, name) for column, name in fields} for row in rows]
    quote: Callable[[Any], str] = connection.ops.quote_name
    columns = ", ".join(quote(column) for column, _ in fields)
    table = quote(meta.db_table)
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {table} ({columns}) SELECT {columns} "  # nosec B608  # names of ours
            f"FROM json_populate_recordset(NULL::{table}, %s)",
            [json.dumps(values, default=str)],
        )
    for row in rows:
        row._state.adding, row._state.db = False, using


def _text_of(
    make: Callable[[Sequence[str]], models.QuerySet[Any, Any]], count: int, *, using: str
) -> _Text | None:
    """Return the text with slots, or None where Django does not leave the texts as they are."""
    slots = [_Slot(number) for number in range(count)]
    sql, params = make(slots).query.get_compiler(using).as_sql()
    found = {one for one in params if isinstance(one, _Slot)}
    return (sql, tuple(params)) if found == set(slots) else None


def _insert_of(
    row: models.Model, fields: list[Any], params: list[Any], *, using: str
) -> str | None:
    """Return the text, or None where its parameters are not the values of the fields."""
    query = InsertQuery(type(row))
    query.insert_values(fields, [row])
    ((sql, expected),) = query.get_compiler(using).as_sql()
    return sql if [type(one) for one in params] == [type(one) for one in expected] else None


def _keep(kept: dict[Hashable, Any], shape: Hashable, text: Any) -> None:
    if len(kept) >= MAX_KEPT:
        kept.clear()
    kept[shape] = text

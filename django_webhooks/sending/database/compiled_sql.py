"""Statements that each save pays for: their text is made once, and used with other values.

Building the text of a query costs Django several times what the database takes to answer it, and
recording an event is done in somebody's request.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, TypeVar
from uuid import UUID

from django.db import connections, models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.expressions import DatabaseDefault

from ... import process_state

#: Texts that are kept at the most.
MAX_KEPT = 200
_Text = tuple[str, tuple[Any, ...]]
_Make = Callable[[Sequence[str]], models.QuerySet[Any, Any]]
Made = TypeVar("Made")
_exists: dict[Hashable, _Text | None] = process_state.remember({}, forget=dict.clear)
_rows: dict[Hashable, tuple[str, dict[int, Any]] | None] = process_state.remember(
    {}, forget=dict.clear
)


class _Slot(str):
    """The place of a value in the parameters of a query."""

    __slots__ = ()


def exist(
    questions: Sequence[tuple[_Make, Sequence[str]]], *, also: str, using: str
) -> Sequence[Any]:
    """Return for each function, with its texts, whether the query that it makes finds a row.

    Queries that a function makes of as many texts differ in nothing but the texts. The last value
    is that of the SQL ``also``.
    """
    asked = [_text(make, texts, using=using) for make, texts in questions]
    columns = ", ".join([*(f"EXISTS ({sql})" for sql, _ in asked), also])
    params = [one for _, params in asked for one in params]
    with connections[using].cursor() as cursor:
        cursor.execute(f"SELECT {columns}", params)  # nosec B608  # texts of this app
        return list(cursor.fetchone())


def row(
    model: type[models.Model], key: Any, names: Sequence[str], *, using: str
) -> dict[str, Any] | None:
    """Return the values of some fields of one row, by its primary key; None where it is not there.

    No manager of the model looks for it: managers may hide rows, or rewrite queries, as those of
    translated models do.
    """
    connection = connections[using]
    shape = (model, *names, using)
    text = _kept(_rows, shape, lambda: _row_of(model, key, names, connection))
    if text is None:
        # The key is unique: the order that the model likes, or first(), would cost for nothing.
        found: Any = models.QuerySet(model, using=using).filter(pk=key).order_by().values(*names)
        return next(iter(found), None)
    sql, converters = text
    with connection.cursor() as cursor:
        cursor.execute(sql, [model._meta.pk.get_db_prep_value(key, connection)])
        values = cursor.fetchone()
    if values is None:
        return None
    values = list(values)
    for place, (functions, expression) in converters.items():
        for convert in functions:
            values[place] = convert(values[place], expression, connection)
    return dict(zip(names, values, strict=True))


def array(keys: Iterable[UUID]) -> str:
    """Return the text of PostgreSQL's array of these: a driver takes longer to write a list."""
    return "{" + ",".join(map(str, keys)) + "}"


def text_array(texts: Iterable[str]) -> str:
    """Return the text of PostgreSQL's array of these, of which there is at least one.

    See https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO.
    """
    quoted = [one.replace("\\", "\\\\").replace('"', '\\"') for one in texts]
    return '{"' + '","'.join(quoted) + '"}'


def insert_all(rows: Sequence[models.Model], *, using: str) -> None:
    """Insert new rows of one model, which have no columns of bytes, as ``bulk_create`` does.

    A column that the database fills by itself in the first of them it fills in all. PostgreSQL
    takes them as one JSON text, which costs a third of a parameter for each value.
    """
    connection = connections[using]
    if connection.vendor != "postgresql" or len(rows) < 2:
        type(rows[0])._base_manager.using(using).bulk_create(rows)
        return
    meta = rows[0]._meta
    fields = [
        (one.column, one.attname)
        for one in meta.concrete_fields
        if not one.generated and not isinstance(getattr(rows[0], one.attname), DatabaseDefault)
    ]
    # Values that JSON has no word for (ids, moments) are texts, as the database writes them.
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


def _text(make: _Make, texts: Sequence[str], *, using: str) -> _Text:
    """Return the text of a query, and its parameters."""
    count = len(texts)
    kept = _kept(_exists, (make, count, using), lambda: _text_of(make, count, using=using))
    if kept is None:
        return _compiled(make(texts), using=using)
    sql, slots = kept
    return sql, tuple(texts[int(one)] if isinstance(one, _Slot) else one for one in slots)


def _text_of(make: _Make, count: int, *, using: str) -> _Text | None:
    """Return the text with slots, or None where Django does not leave the texts as they are."""
    slots = [_Slot(number) for number in range(count)]
    sql, params = _compiled(make(slots), using=using)
    found = {one for one in params if isinstance(one, _Slot)}
    return (sql, params) if found == set(slots) else None


def _compiled(rows: models.QuerySet[Any, Any], *, using: str) -> _Text:
    sql, params = rows.values("pk").query.get_compiler(using).as_sql()
    return sql, tuple(params)


def _row_of(
    model: type[models.Model], key: Any, names: Sequence[str], connection: BaseDatabaseWrapper
) -> tuple[str, dict[int, Any]] | None:
    """Return the text and the converters of its columns, or None where the text may change."""
    query = models.QuerySet(model).filter(pk=key).order_by().values_list(*names).query
    compiler = query.get_compiler(connection=connection)
    sql, params = compiler.as_sql()
    if list(params) != [model._meta.pk.get_db_prep_value(key, connection)]:
        return None
    return sql, compiler.get_converters([expression for expression, _, _ in compiler.select])


def _kept(kept: dict[Hashable, Made], shape: Hashable, make: Callable[[], Made]) -> Made:
    """Return what is kept of a shape, made where it is not; other threads may clear all of it."""
    try:
        return kept[shape]
    except KeyError:
        text = make()
    if len(kept) >= MAX_KEPT:
        kept.clear()
    kept[shape] = text
    return text

"""Statements that each save pays for: their text is made once, and used with other values.

Building the text of a query costs Django several times what the database takes to answer it, and
recording an event is done in somebody's request.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Iterable, Sequence
from enum import Enum
from functools import cache
from itertools import chain
from typing import Any, TypeVar
from uuid import UUID

from django.db import connections, models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.expressions import Combinable, DatabaseDefault
from django.db.models.sql import InsertQuery

#: Texts that are kept at the most.
MAX_KEPT = 200
#: Rows that PostgreSQL is given in one statement that inserts each.
FEW = 4

_Text = tuple[str, tuple[Any, ...]]
Made = TypeVar("Made")
_selects: dict[Hashable, _Text | None] = {}
_inserts: dict[Hashable, str] = {}
_rows: dict[Hashable, tuple[str, dict[int, Any]] | None] = {}
#: Of a column that the database fills by itself.
_LEFT_OUT = ""
_WORDS = {None: "NULL", True: "TRUE", False: "FALSE", "": "''"}
#: Fields whose values PostgreSQL's driver takes as they are.
_PLAIN = {
    models.BinaryField,
    models.BooleanField,
    models.CharField,
    models.DateTimeField,
    models.PositiveIntegerField,
    models.PositiveSmallIntegerField,
    models.TextField,
    models.UUIDField,
}


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
    text = _kept(_selects, shape, lambda: _text_of(make, len(texts), using=using))
    if text is None:
        sql, params = make(texts).query.get_compiler(using).as_sql()
    else:
        sql, slots = text
        params = tuple(texts[int(one)] if isinstance(one, _Slot) else one for one in slots)
    with connections[using].cursor() as cursor:
        cursor.execute(sql, params)
        return list(cursor.fetchall())


def row(
    model: type[models.Model], key: Any, names: Sequence[str], *, using: str
) -> dict[str, Any] | None:
    """Return the values of some fields of one row, by its primary key; None where it is not there.

    It is looked for by the model's base manager, as a save looks for it.
    """
    connection = connections[using]
    shape = (model, *names, using)
    text = _kept(_rows, shape, lambda: _row_of(model, key, names, connection))
    if text is None:
        # The key is unique: the order that the model likes, or first(), would cost for nothing.
        found = model._base_manager.using(using).filter(pk=key).order_by().values(*names)
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


def insert(rows: Sequence[models.Model], *, using: str) -> None:
    """Insert new rows as ``bulk_create`` does: their keys are known and no signal is sent.

    What a row refers to comes before it. PostgreSQL is asked once for a few rows, which is what a
    save in a request mostly brings.
    """
    if connections[using].vendor == "postgresql" and len(rows) <= FEW:
        _insert_few(rows, using=using)
        return
    by_model: dict[type[models.Model], list[models.Model]] = {}
    for row in rows:
        by_model.setdefault(type(row), []).append(row)
    for model, own in by_model.items():
        if len(own) == 1:
            _insert_few(own, using=using)
        else:
            model._base_manager.using(using).bulk_create(own)


def _insert_few(rows: Sequence[models.Model], *, using: str) -> None:
    if not rows:
        return
    connection = connections[using]
    inserts = [_insert_of(row, connection) for row in rows]
    *others, last = [text for text, _ in inserts]
    if others:
        parts = ", ".join(f"row_{number} AS ({text})" for number, text in enumerate(others))
        last = f"WITH {parts} {last}"
    with connection.cursor() as cursor:
        cursor.execute(last, list(chain.from_iterable(params for _, params in inserts)))
    for row in rows:
        row._state.adding, row._state.db = False, using


def insert_all(rows: Sequence[models.Model], *, using: str) -> None:
    """Insert new rows of one model, which have no columns of bytes, as ``bulk_create`` does.

    What the database fills by itself in the first of them it fills in all.
    PostgreSQL takes them as one JSON text, which costs a third of a parameter for each value.
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


def _row_of(
    model: type[models.Model], key: Any, names: Sequence[str], connection: BaseDatabaseWrapper
) -> tuple[str, dict[int, Any]] | None:
    """Return the text and the converters of its columns, or None where the text may change."""
    if type(model._base_manager) is not models.Manager:
        return None
    query = model._base_manager.filter(pk=key).order_by().values_list(*names).query
    compiler = query.get_compiler(connection=connection)
    sql, params = compiler.as_sql()
    if list(params) != [model._meta.pk.get_db_prep_value(key, connection)]:
        return None
    return sql, compiler.get_converters([expression for expression, _, _ in compiler.select])


def _insert_of(row: models.Model, connection: BaseDatabaseWrapper) -> tuple[str, list[Any]]:
    """Return the INSERT of a row and its parameters.

    What is empty is a part of the text: each parameter costs more than what it says.
    """
    state = vars(row)
    marks: list[Any] = []
    params: list[Any] = []
    for field, is_plain in _columns(type(row), connection.vendor):
        value = state[field.attname]
        if isinstance(value, Enum) and field.choices:
            # A word of this app, not one that a project gave.
            marks.append(f"'{value.value}'")
        elif value is None or value is True or value is False or (type(value) is str and not value):
            marks.append(_WORDS[value])
        elif type(value) is int and 0 <= value < 10:
            marks.append(str(value))
        elif isinstance(value, DatabaseDefault):
            marks.append(_LEFT_OUT)
        elif isinstance(value, Combinable):
            # One that takes no arguments: its class says all of it.
            marks.append(type(value))
        else:
            marks.append("%s")
            params.append(value if is_plain else field.get_db_prep_save(value, connection))
    shape = (type(row), *marks, connection.alias)
    text = _kept(_inserts, shape, lambda: _text_of_insert(type(row), marks, connection))
    return text, params


@cache
def _columns(model: type[models.Model], vendor: str) -> list[tuple[Any, bool]]:
    """Return the columns of a model, and whether PostgreSQL takes their values as they are."""
    return [
        (one, vendor == "postgresql" and type(_target_of(one)) in _PLAIN)
        for one in model._meta.concrete_fields
        if not one.generated
    ]


def _target_of(field: Any) -> Any:
    return field.target_field if field.remote_field else field


def _text_of_insert(
    model: type[models.Model], marks: Sequence[Any], connection: BaseDatabaseWrapper
) -> str:
    compiler = InsertQuery(model).get_compiler(connection=connection)
    quote = connection.ops.quote_name
    table = quote(model._meta.db_table)
    columns = ", ".join(
        quote(one.column)
        for (one, _), mark in zip(_columns(model, connection.vendor), marks, strict=True)
        if mark != _LEFT_OUT
    )
    values = ", ".join(
        mark if isinstance(mark, str) else compiler.compile(mark())[0]
        for mark in marks
        if mark != _LEFT_OUT
    )
    return f"INSERT INTO {table} ({columns}) VALUES ({values})"  # nosec B608  # names of ours


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

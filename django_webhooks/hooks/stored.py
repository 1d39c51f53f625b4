"""Objects as the database has them: what is told is what was written, not what is in memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import cache
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import models
from django.db.models.fields.files import FieldFile
from django.utils import timezone
from django.utils.functional import cached_property

from .. import process_state
from ..sending.database import compiled_sql
from . import values
from .model_webhooks import concrete_of

Row = Mapping[str, Any]
#: A column: what it is of is seen at run time alone.
_Field = Any

#: Digits of a Decimal that every database gives back as they are; SQLite keeps floating points.
_EXACT_DIGITS = 15


def read(instance: models.Model, *, using: str) -> tuple[models.Model, Row] | None:
    """Return the object as its row is now, with the row's values by column; None without a row.

    The object keeps what else the instance had at hand: attributes of the project's own, and
    related objects that are still the same.
    """
    if instance.pk is None:
        return None
    names = [field.attname for field in _columns(type(instance))]
    row = compiled_sql.row(concrete_of(type(instance)), instance.pk, names, using=using)
    if row is None:
        return None
    return _dressed(type(instance).from_db(using, names, list(row.values())), instance), row


def read_many(instances: Iterable[tuple[models.Model, str]]) -> dict[int, models.Model]:
    """Return objects as their rows are now, by the ``id()`` of what is given with its database.

    It takes one query for each model, and leaves out what has no row.
    """
    groups: dict[tuple[type[models.Model], str], list[models.Model]] = {}
    for instance, using in instances:
        groups.setdefault((type(instance), using), []).append(instance)
    found = {}
    for (kind, using), some in groups.items():
        rows: Any = models.QuerySet(kind, using=using).in_bulk([one.pk for one in some])
        for one in some:
            # Keys that were given as text are of the field's own type in the row.
            row = rows.get(one.pk) or rows.get(kind._meta.pk.to_python(one.pk))
            if row is not None:
                found[id(one)] = _dressed(row, one)
    return found


def after_write(
    instance: models.Model,
    *,
    written: Collection[str] | None,
    before: Row | None,
    using: str,
) -> tuple[models.Model, Row]:
    """Return the object as a save has just left it, and its values by column.

    It is read again only where memory may say something else than the database: after a save of
    some fields, and for values that may come back as others. ``written`` names the fields that
    were saved, or is None for all; ``before`` is the row before.
    """
    row = _as_written(instance, written=written, before=before)
    if row is None:
        # A row may be hidden by the database's own rules.
        return read(instance, using=using) or remembered(instance, using=using)
    state = vars(instance)
    if all(value is state[name] for name, value in row.items()):
        return instance, state
    stored = type(instance).from_db(using, list(row), list(row.values()))
    return _dressed(stored, instance), row


def remembered(instance: models.Model, *, using: str) -> tuple[models.Model, Row]:
    """Return the object with the values in memory, in the form that the database gives them."""
    state = vars(instance)
    row = {
        field.attname: values.normalise(field, state[field.attname])
        for field in _columns(type(instance))
        if field.attname in state
    }
    return _dressed(type(instance).from_db(using, list(row), list(row.values())), instance), row


def _dressed(stored: models.Model, instance: models.Model) -> models.Model:
    """Give what was read the rest of what the instance has at hand."""
    state, kind = vars(stored), type(instance)
    columns = {field.attname for field in _columns(kind)}
    for name, value in vars(instance).items():
        if name not in state and name not in columns and not _is_cached(kind, name):
            state[name] = value
    related = {field.name: field for field in _columns(kind) if field.is_relation}
    for name, value in instance._state.fields_cache.items():
        field = related.get(name)
        if field is None or state.get(field.attname) == vars(instance).get(field.attname):
            stored._state.fields_cache.setdefault(name, value)
    return stored


def _is_cached(kind: type, name: str) -> bool:
    """Say whether the attribute was computed of values that may be others now."""
    return isinstance(getattr(kind, name, None), cached_property)


def _columns(kind: type[models.Model]) -> Collection[_Field]:
    return kind._meta.concrete_fields


def _as_written(
    instance: models.Model, *, written: Collection[str] | None, before: Row | None
) -> dict[str, Any] | None:
    """Return the values in memory as the database has them, or None where that is not sure."""
    state, row = vars(instance), {}
    for field, reads_back in _kinds(type(instance)):
        name = field.attname
        is_written = written is None or field.name in written or name in written
        if name not in state:
            if is_written or getattr(field, "generated", False):
                # Django 6 defers what a database without UPDATE RETURNING has computed.
                return None
            continue
        value = state[name]
        if value is not None:
            value = _UNSURE if reads_back is None else reads_back(field, value)
        if value is _UNSURE:
            return None
        if not is_written and (before is None or name not in before or before[name] != value):
            return None
        row[name] = value
    return row


@process_state.memo
@cache
def _kinds(kind: type[models.Model]) -> list[tuple[_Field, Callable[[_Field, Any], Any] | None]]:
    """Return each column with what brings a value into the form in which it is read back."""
    found = []
    for field in _columns(kind):
        target: _Field = field
        while isinstance(target, models.ForeignKey):
            target = target.target_field
        found.append((field, _READS_BACK.get(type(target))))
    return found


def _is(*kinds: type) -> Callable[[_Field, Any], Any]:
    return lambda field, value: value if type(value) in kinds else _UNSURE


def _text(field: _Field, value: Any) -> Any:
    if isinstance(value, str):
        return value
    return str(value) if type(value) is int else _UNSURE


def _whole(field: _Field, value: Any) -> Any:
    if isinstance(value, bool):
        return int(value)
    return value if isinstance(value, int) else _UNSURE


def _finite(field: _Field, value: Any) -> Any:
    if type(value) is int:
        return float(value)
    return value if type(value) is float and math.isfinite(value) else _UNSURE


def _moment(field: _Field, value: Any) -> Any:
    is_one = type(value) is datetime and timezone.is_aware(value) == settings.USE_TZ
    return value if is_one else _UNSURE


def _file(field: _Field, value: Any) -> Any:
    return value if isinstance(value, str | FieldFile) else _UNSURE


def _json(field: _Field, value: Any) -> Any:
    is_plain = getattr(field, "encoder", None) is None and getattr(field, "decoder", None) is None
    return value if is_plain and _is_plain_json(value) else _UNSURE


def _is_plain_json(value: Any) -> bool:
    # A floating point may come back as a whole number.
    match value:
        case None | bool() | int() | str():
            return type(value) in _JSON
        case dict():
            return all(type(key) is str and _is_plain_json(one) for key, one in value.items())
        case list():
            return all(map(_is_plain_json, value))
    return False


def _exact(field: _Field, value: Any) -> Any:
    """Return a Decimal with the places of its column, where none has to be rounded away."""
    if type(value) is int:
        value = Decimal(value)
    places: int | None = getattr(field, "decimal_places", None)
    if type(value) is not Decimal or places is None or not value.is_finite():
        return _UNSURE
    _, digits, exponent = value.as_tuple()
    if exponent == -places and len(digits) <= _EXACT_DIGITS:
        return value
    if not isinstance(exponent, int) or exponent < -places:
        return _UNSURE
    return value.quantize(Decimal(1).scaleb(-places)) if value.adjusted() < 10 else _UNSURE


_JSON = {type(None), bool, int, str}
_WHOLE = (
    models.AutoField,
    models.BigAutoField,
    models.BigIntegerField,
    models.IntegerField,
    models.PositiveBigIntegerField,
    models.PositiveIntegerField,
    models.PositiveSmallIntegerField,
    models.SmallAutoField,
    models.SmallIntegerField,
)
#: Of a value that only the database can tell.
_UNSURE: Any = object()

#: Django's own fields, and no classes derived from them: these may convert in ways of their own.
_READS_BACK: dict[type[Any], Callable[[_Field, Any], Any]] = {
    models.BooleanField: _is(bool),
    models.CharField: _text,
    models.DateField: _is(date),
    models.DateTimeField: _moment,
    models.DecimalField: _exact,
    models.DurationField: _is(timedelta),
    models.EmailField: _text,
    models.FileField: _file,
    models.FloatField: _finite,
    models.ImageField: _file,
    models.JSONField: _json,
    models.SlugField: _text,
    models.TextField: _text,
    models.TimeField: _is(time),
    models.URLField: _text,
    models.UUIDField: _is(UUID),
    **dict.fromkeys(
        (
            models.AutoField,
            models.BigAutoField,
            models.BigIntegerField,
            models.IntegerField,
            models.PositiveBigIntegerField,
            models.PositiveIntegerField,
            models.PositiveSmallIntegerField,
            models.SmallAutoField,
            models.SmallIntegerField,
        ),
        _whole,
    ),
}

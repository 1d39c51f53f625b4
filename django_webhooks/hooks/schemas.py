"""Shapes: the JSON Schema and an example of what a model's fields become."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db import models

from . import values

_Fields = Mapping[str, "models.Field[Any, Any] | None"]
_Shape = tuple[dict[str, Any], Any]

_TEXT: _Shape = ({"type": "string"}, "text")
#: What may be anything: said of fields that are not Django's own, too.
_UNKNOWN: _Shape = ({}, None)

# The first match counts, so a class stands before those it derives from.
_SHAPES: list[tuple[type[models.Field[Any, Any]], dict[str, Any], Any]] = [
    (models.BooleanField, {"type": "boolean"}, True),
    (models.DateTimeField, {"type": "string", "format": "date-time"}, "2026-01-31T12:00:00Z"),
    (models.DateField, {"type": "string", "format": "date"}, "2026-01-31"),
    (models.TimeField, {"type": "string", "format": "time"}, "12:00:00"),
    (models.DurationField, {"type": "string", "format": "duration"}, "P0DT01H00M00S"),
    (models.DecimalField, {"type": "string"}, "42.00"),
    # JSON has no numbers for these.
    (
        models.FloatField,
        {"anyOf": [{"type": "number"}, {"enum": ["inf", "-inf", "nan"]}]},
        4.2,
    ),
    (models.IntegerField, {"type": "integer"}, 42),
    (
        models.UUIDField,
        {"type": "string", "format": "uuid"},
        "018f3c7e-0000-7000-8000-000000000000",
    ),
    (models.EmailField, {"type": "string", "format": "email"}, "somebody@example.com"),
    (models.URLField, {"type": "string", "format": "uri"}, "https://example.com/"),
    (models.BinaryField, {"type": "string", "contentEncoding": "base64"}, "dGV4dA=="),
    (models.JSONField, {}, {}),
    (models.CompositePrimaryKey, {"type": "array"}, [1, 2]),
    *((kind, *_TEXT) for kind in (models.CharField, models.TextField, models.FileField)),
    *((kind, *_TEXT) for kind in (models.FilePathField, models.GenericIPAddressField)),
]


def schema_of(fields: _Fields, *, has_changed: bool) -> dict[str, Any]:
    """Return the JSON Schema of data with these fields."""
    properties = {name: _shape(field)[0] for name, field in fields.items()}
    if has_changed:
        properties["changed"] = {"type": "array", "items": {"type": "string"}}
    return {"type": "object", "properties": properties, "required": list(properties)}


def example_of(fields: _Fields, *, has_changed: bool) -> dict[str, Any]:
    """Return an example of data with these fields."""
    example = {name: _shape(field)[1] for name, field in fields.items()}
    if has_changed:
        example["changed"] = list(fields)[-1:]
    return example


def _shape(field: models.Field[Any, Any] | None) -> _Shape:
    if field is None:
        return _UNKNOWN
    if isinstance(field, models.ManyToManyField):
        schema, example = _shape(field.related_model._meta.pk)
        return {"type": "array", "items": schema}, [example]
    target: Any = field
    while isinstance(target, models.ForeignKey):
        target = target.target_field
    schema, example = _plain_shape(target)
    if field.null and "type" in schema:
        schema = {**schema, "type": [schema["type"], "null"]}
    elif field.null and "anyOf" in schema:
        schema = {**schema, "anyOf": [*schema["anyOf"], {"type": "null"}]}
    return schema, example


def _plain_shape(field: Any) -> _Shape:
    while isinstance(field, models.GeneratedField):
        field = field.output_field
    if values.holds_several(field):
        return {"type": "array"}, []
    if (inner := _own_shape(field)) is not None:
        return inner
    kind = type(field)
    shape, example = next((found[1:] for found in _SHAPES if isinstance(field, found[0])), _UNKNOWN)
    if not _keeps_values(kind):
        return _UNKNOWN
    schema: dict[str, Any] = dict(shape)
    if field.blank and isinstance(field, models.CharField):
        # An empty text is no address of any kind.
        schema.pop("format", None)
    choices = [value for value, _ in field.flatchoices or () if value is not None]
    if isinstance(field, models.CharField | models.IntegerField) and choices:
        example = next((value for value in choices if value != ""), example)
        blank = [""] if field.blank and isinstance(field, models.CharField) else []
        null = [None] if field.null else []
        schema["enum"] = list(dict.fromkeys([*choices, *blank, *null]))
    return schema, example


def _own_shape(field: Any) -> _Shape | None:
    """Return the shape of a field for PostgreSQL alone: its package needs the driver's."""
    if not type(field).__module__.startswith("django.contrib.postgres."):
        return None
    if hasattr(field, "base_field") and hasattr(field, "size"):
        schema, example = _shape(field.base_field)
        return {"type": "array", "items": schema}, [example]
    if type(field).__name__ == "HStoreField":
        return {"type": "object"}, {}
    return _UNKNOWN


def _keeps_values(kind: type) -> bool:
    """Say whether a field gives what Django's own field gives that it derives from.

    One that has ways of its own to make values of columns may give anything: an enumeration, a
    list, an object.
    """
    for name in ("from_db_value", "to_python", "value_from_object", "value_to_string"):
        maker = getattr(kind, name, None)
        if maker is not None and not maker.__module__.startswith("django."):
            return False
    for name in ("contribute_to_class", "descriptor_class"):
        if not getattr(kind, name).__module__.startswith("django."):
            return False
    return True

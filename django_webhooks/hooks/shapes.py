"""Shapes: the JSON Schema and an example of what a model's fields become."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db import models

_Fields = Mapping[str, "models.Field[Any, Any] | None"]

# The first match counts, so a class stands before those it derives from.
_SHAPES: list[tuple[type[models.Field[Any, Any]], dict[str, Any], Any]] = [
    (models.BooleanField, {"type": "boolean"}, True),
    (models.DateTimeField, {"type": "string", "format": "date-time"}, "2026-01-31T12:00:00Z"),
    (models.DateField, {"type": "string", "format": "date"}, "2026-01-31"),
    (models.TimeField, {"type": "string", "format": "time"}, "12:00:00"),
    (models.DurationField, {"type": "string", "format": "duration"}, "P0DT01H00M00S"),
    (models.DecimalField, {"type": "string"}, "42.00"),
    (models.FloatField, {"type": "number"}, 4.2),
    (models.IntegerField, {"type": "integer"}, 42),
    (
        models.UUIDField,
        {"type": "string", "format": "uuid"},
        "018f3c7e-0000-7000-8000-000000000000",
    ),
    (models.EmailField, {"type": "string", "format": "email"}, "somebody@example.com"),
    (models.URLField, {"type": "string", "format": "uri"}, "https://example.com/"),
    (models.JSONField, {}, {}),
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


def _shape(field: models.Field[Any, Any] | None) -> tuple[dict[str, Any], Any]:
    if field is None:
        return {}, None
    if isinstance(field, models.ManyToManyField):
        schema, example = _shape(field.related_model._meta.pk)
        return {"type": "array", "items": schema}, [example]
    target = field.target_field if isinstance(field, models.ForeignKey) else field
    schema, example = _plain_shape(target)
    if field.null and "type" in schema:
        schema = {**schema, "type": [schema["type"], "null"]}
    return schema, example


def _plain_shape(field: models.Field[Any, Any]) -> tuple[dict[str, Any], Any]:
    shape, example = next(
        (found[1:] for found in _SHAPES if isinstance(field, found[0])),
        ({"type": "string"}, "text"),
    )
    schema: dict[str, Any] = dict(shape)
    choices = [value for value, _ in field.flatchoices if value is not None]
    if isinstance(field, models.CharField | models.IntegerField) and choices:
        example = next((value for value in choices if value != ""), example)
        blank = [""] if field.blank and isinstance(field, models.CharField) else []
        null = [None] if field.null else []
        schema["enum"] = list(dict.fromkeys([*choices, *blank, *null]))
    return schema, example

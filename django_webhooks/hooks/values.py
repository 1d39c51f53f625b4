"""Values of fields: in the form that the database gives them, and in one that can be sent."""

from __future__ import annotations

import base64
import decimal
import json
import math
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from enum import Enum
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import models
from django.utils import timezone
from django.utils.functional import Promise

#: Types that bodies have a form for, and that mean the same whatever field they come from.
_PROTECTED = (
    type(None),
    bool,
    int,
    str,
    decimal.Decimal,
    date,
    time,
    timedelta,
    UUID,
    Promise,
)


def is_expression(value: Any) -> bool:
    """Say whether only the database knows the value, as of ``F("stock") - 1``."""
    return hasattr(value, "resolve_expression")


def normalise(field: models.Field[Any, Any], value: Any) -> Any:
    """Return a value as the database would give it back: ``"42"`` as 42, 1.5 as Decimal("1.50")."""
    if value is None or is_expression(value):
        return value
    while isinstance(field, models.ForeignKey):
        field = field.target_field
    if isinstance(field, models.FileField):
        return str(value)
    try:
        value = field.to_python(value)
    except Exception:
        # No value of the field: the database would not have taken it either.
        return value
    match value:
        case decimal.Decimal() if isinstance(field, models.DecimalField):
            return _rounded(field, value)
        case datetime() if settings.USE_TZ and timezone.is_naive(value):
            return timezone.make_aware(value, timezone.get_default_timezone())
    return value


def differ(field: models.Field[Any, Any], value: Any, stored: Any) -> bool:
    """Say whether a value is another than the one that the database gave."""
    # Mostly it is the same already; only what is not has to be brought into the same words.
    if _are_equal(value, stored) or _are_equal(normalise(field, value), stored):
        return False
    try:
        # Objects of fields that come without a comparison of their own.
        return bool(field.get_prep_value(value) != field.get_prep_value(stored))
    except Exception:
        return True


def of_field(field: models.Field[Any, Any], instance: models.Model) -> Any:
    """Return the value of an object's field in a form that can be sent.

    As Django's serializers do, a value that has no form of its own is told by the field's
    ``value_to_string``. Lists and dictionaries stay what they are.
    """
    value = field.value_from_object(instance)
    if type(value) is int or (type(value) is str and value.isascii()):
        return value
    if is_expression(value):
        return str(value)
    if holds_several(field) and isinstance(value, Iterable) and not isinstance(value, str):
        return [sendable(one) for one in value]
    if isinstance(value, list | tuple | set | frozenset | dict):
        encoder = getattr(field, "encoder", None)
        if encoder is not None:
            return _encoded(value, encoder)
        return sendable(value)
    if _is_protected(value):
        return sendable(value)
    try:
        return sendable(field.value_to_string(instance))
    except Exception:
        return sendable(value)


def holds_several(field: models.Field[Any, Any]) -> bool:
    """Say whether a column has several values of its field, such as a list of countries.

    That is how packages call it which have fields of one value or of several.
    """
    return getattr(field, "multiple", False) is True


def sendable(value: Any) -> Any:
    """Return the value in a form that can be sent, whatever it is: the last resort is its text."""
    match value:
        case datetime() if timezone.is_aware(value):
            return value.astimezone(UTC)
        case time() if value.tzinfo is not None:
            return value.isoformat()
        case Enum() if not isinstance(value, str | int):
            return sendable(value.value)
        case decimal.Decimal() if not value.is_finite():
            return str(value)
        case str() if not value.isascii():
            return _encodable(value)
        case _ if _is_protected(value):
            return value
        case bytes() | bytearray() | memoryview():
            return base64.b64encode(value).decode("ascii")
        case models.Model():
            return sendable(value.pk)
        case Mapping():
            return {_key(key): sendable(one) for key, one in value.items()}
        case list() | tuple() | set() | frozenset() | models.QuerySet():
            return [sendable(one) for one in _in_order(value)]
    return str(value)


def _is_protected(value: Any) -> bool:
    return isinstance(value, _PROTECTED) or (isinstance(value, float) and math.isfinite(value))


def _key(key: Any) -> Any:
    key = sendable(key)
    return key if key is None or isinstance(key, str | int) else str(key)


def _encodable(text: str) -> str:
    """Return the text without halves of characters, which JSON in a database may hold."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _in_order(some: Iterable[Any]) -> Iterable[Any]:
    # Sets have none, and the same set should read the same.
    return sorted(some, key=repr) if isinstance(some, set | frozenset) else some


def _encoded(value: Any, encoder: Any) -> Any:
    try:
        return sendable(json.loads(json.dumps(value, cls=encoder)))
    except (TypeError, ValueError):
        return sendable(value)


def _are_equal(one: Any, other: Any) -> bool:
    try:
        # Not a number is not itself, either.
        return bool(one == other) or bool(one != one and other != other)
    except Exception:
        # Arrays of numbers compare one by one.
        return False


def _rounded(field: models.DecimalField[Any, Any], value: decimal.Decimal) -> decimal.Decimal:
    # Newer versions of Django leave the choice to the database.
    digits: int | None = field.max_digits
    places: int | None = field.decimal_places
    if digits is None or places is None or not value.is_finite():
        return value
    context = decimal.getcontext().copy()
    context.prec = max(context.prec, digits)
    try:
        return value.quantize(decimal.Decimal(1).scaleb(-places), context=context)
    except decimal.InvalidOperation:
        return value

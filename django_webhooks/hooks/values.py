"""Values of fields, so that a value reads the same before it is stored and after."""

from __future__ import annotations

import decimal
from datetime import datetime
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.utils import timezone


def is_expression(value: Any) -> bool:
    """Say whether only the database knows the value, as of ``F("stock") - 1``."""
    return hasattr(value, "resolve_expression")


def plain(field: models.Field[Any, Any], value: Any) -> Any:
    """Return a value as the database would give it back: ``"42"`` as 42, 1.5 as Decimal("1.50")."""
    if value is None or is_expression(value):
        return value
    while isinstance(field, models.ForeignKey):
        field = field.target_field
    if isinstance(field, models.FileField):
        return str(value)
    try:
        value = field.to_python(value)
    except (ValidationError, TypeError, ValueError):
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
    return bool(value != stored and plain(field, value) != stored)


def _rounded(field: models.DecimalField[Any, Any], value: decimal.Decimal) -> decimal.Decimal:
    # Newer versions of Django leave the choice to the database.
    digits: int | None = field.max_digits
    places: int | None = field.decimal_places
    if digits is None or places is None:
        return value
    context = decimal.getcontext().copy()
    context.prec = max(context.prec, digits)
    return value.quantize(decimal.Decimal(1).scaleb(-places), context=context)

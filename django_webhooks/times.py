"""Moments: aware, in UTC, whatever USE_TZ and TIME_ZONE say; people read them in the current zone.

With ``USE_TZ=False`` Django's own clock, fields and forms speak naive local times, which name two
moments in the hour that autumn repeats, and none in the one that spring leaves out. So this package
has one clock (:func:`now`), one column (:class:`~django_webhooks.fields.UTCDateTimeField`), and the
conversions for people here.
"""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from typing import Any

from django import forms
from django.conf import settings
from django.core.exceptions import ValidationError
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _

__all__ = ["now"]


def now() -> datetime:
    """Return the present moment, aware and in UTC."""
    return datetime.now(UTC)


def aware(value: datetime, zone: tzinfo | None = None) -> datetime:
    """Return the moment in UTC; a naive value is read in ``zone``, else in the default zone.

    Of an hour that comes twice the first is meant, unless ``fold`` says otherwise (PEP 495).
    """
    if value.tzinfo is None:
        value = value.replace(tzinfo=zone or timezone.get_default_timezone())
    return value if value.tzinfo is UTC else value.astimezone(UTC)


def written(moment: datetime | None) -> str:
    """Return a moment to the second in the current zone, or "-".

    In the hour that comes twice the offset is written as well: ``2026-11-01 01:30:00 -0500``.
    """
    if moment is None:
        return "-"
    local = timezone.localtime(moment)
    text = date_format(local, "Y-m-d H:i:s")
    return f"{text} {local:%z}" if comes_twice(local) else text


def comes_twice(local: datetime) -> bool:
    """Say whether the clock of its zone shows this time twice on that day."""
    return local.replace(fold=0).utcoffset() != local.replace(fold=1).utcoffset() and exists(local)


def exists(local: datetime) -> bool:
    """Say whether the clock of its zone shows this time at all."""
    back = local.astimezone(UTC).astimezone(local.tzinfo)
    return back.replace(tzinfo=None, fold=0) == local.replace(tzinfo=None, fold=0)


class _Entered:
    """A form field of a moment: shown and read by the clock of the current zone."""

    def prepare_value(self, value: Any) -> Any:
        """Return what the form shows of a moment."""
        return super().prepare_value(_shown(value))  # type: ignore[misc]  # a form field's

    def has_changed(self, initial: Any, data: Any) -> bool:
        """Compare what is shown with what was sent."""
        # With USE_TZ Django compares moments, else what clocks show.
        initial = initial if settings.USE_TZ else _shown(initial)
        return bool(super().has_changed(initial, data))  # type: ignore[misc]  # the same

    def clean(self, value: Any) -> datetime | None:
        """Return the moment in UTC; refuse a time that names none, or two."""
        found: Any = super().clean(value)  # type: ignore[misc]  # the same
        if not isinstance(found, datetime):
            return None
        if found.tzinfo is not None:
            return aware(found)
        local = found.replace(tzinfo=timezone.get_current_timezone())
        if not exists(local) or comes_twice(local):
            # Django's own words for a project with USE_TZ.
            message = _(
                "%(datetime)s couldn’t be interpreted in time zone %(current_timezone)s; it may "
                "be ambiguous or it may not exist."
            )
            values = {"datetime": found, "current_timezone": local.tzinfo}
            raise ValidationError(message, code="ambiguous_timezone", params=values)
        return aware(local)


class UTCDateTimeFormField(_Entered, forms.DateTimeField):
    """A moment to enter in one piece."""


class UTCSplitDateTimeFormField(_Entered, forms.SplitDateTimeField):
    """A moment to enter as a date and a time, as Django's admin has it."""


def _shown(value: Any) -> Any:
    # With USE_TZ Django converts by itself what is aware, and leaves what is naive.
    if isinstance(value, datetime) and value.tzinfo is not None:
        return timezone.localtime(value).replace(tzinfo=None)
    return value

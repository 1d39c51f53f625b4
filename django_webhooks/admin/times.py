"""Moments: written for the reader, in the zone of the browser where it tells, with UTC beside."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

from django import forms
from django.contrib.admin import display
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.timezone import get_current_timezone, localtime

from .. import times
from ..sending.replays import selection

#: As :func:`times.written` writes them.
_WRITTEN = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)(?: ([+-]\d{4}))?")


def moment(when: Any) -> SafeString:
    """Return a moment to the second; the script of the admin moves it to the browser's zone."""
    if not when:
        return SafeString("-")
    exact = times.aware(when)
    return format_html(
        '<time class="webhooks-moment" datetime="{}" title="{}">{}</time>',
        exact.isoformat(timespec="milliseconds"),
        f"{exact:%Y-%m-%d %H:%M:%S.%f} UTC",
        times.written(when),
    )


def moment_column(
    description: Any, path: str, *, ordering: str | None = None
) -> Callable[[Any, Any], SafeString]:
    """Return a column that shows a moment of a row by its name, such as ``health.since``."""

    @display(description=description, ordering=ordering)
    def column(admin: Any, row: Any) -> SafeString:
        found = row
        for name in path.split("."):
            found = getattr(found, name, None)
        return moment(found)

    return column


class MomentInput(forms.DateTimeInput):
    """A moment to enter; the script of the admin shows it, and sends it, by the browser's zone."""

    input_type = "datetime-local"

    def get_context(self, name: str, value: Any, attrs: Any) -> Any:
        """Return what the field needs, whichever way the value was written."""
        context: Any = super().get_context(name, None, attrs)
        context["widget"]["attrs"] |= {"step": 1, "data-webhooks-utc": exactly(value)}
        context["widget"]["value"] = written(value)
        return context


def exactly(value: Any) -> str:
    """Return a moment, or a text that writes one, in UTC; empty where it is none."""
    when = _read(value)
    return when.isoformat(timespec="seconds") if when else ""


def written(value: Any) -> str:
    """Return the same by the clock of the server's zone, as fields of browsers have it."""
    when = _read(value)
    return f"{localtime(when):%Y-%m-%dT%H:%M:%S}" if when else ""


def _read(value: Any) -> datetime | None:
    try:
        found: datetime | None = selection.moment(value) if isinstance(value, str) else value
    except ValueError:
        return None
    return times.aware(found, zone=get_current_timezone()) if found else None


def in_text(text: str) -> SafeString:
    """Return a sentence with each moment in it marked up as :func:`moment` does."""
    parts: list[str] = []
    end = 0
    for found in _WRITTEN.finditer(text):
        # With an offset in the hour that comes twice.
        written = datetime.fromisoformat("".join(filter(None, found.groups())))
        when = times.aware(written, zone=get_current_timezone())
        parts += [text[end : found.start()], moment(when)]
        end = found.end()
    return format_html_join("", "{}", ((part,) for part in [*parts, text[end:]]))

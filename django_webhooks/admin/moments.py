"""Moments: written for the reader, in the zone of the browser where it tells, with UTC beside."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from django.utils.formats import date_format
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.timezone import get_current_timezone, localtime

_WRITTEN = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")


def moment(when: Any) -> SafeString:
    """Return a moment to the second; the script of the admin moves it to the browser's zone."""
    if not when:
        return SafeString("-")
    exact = when.astimezone(UTC)
    return format_html(
        '<time class="webhooks-moment" datetime="{}" title="{}">{}</time>',
        exact.isoformat(timespec="milliseconds"),
        f"{exact:%Y-%m-%d %H:%M:%S.%f} UTC",
        date_format(localtime(when), "Y-m-d H:i:s"),
    )


def in_text(text: str) -> SafeString:
    """Return a sentence with each moment in it marked up as :func:`moment` does."""
    zone = get_current_timezone()
    parts: list[str] = []
    end = 0
    for found in _WRITTEN.finditer(text):
        written = datetime.strptime(found[0], "%Y-%m-%d %H:%M:%S").replace(tzinfo=zone)
        parts += [text[end : found.start()], moment(written)]
        end = found.end()
    return format_html_join("", "{}", ((part,) for part in [*parts, text[end:]]))

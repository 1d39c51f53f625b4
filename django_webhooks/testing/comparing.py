"""Compare the data of an event with what a test expects, and show it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

#: Characters of an event's data that a failure shows.
SHOWN = 300


def holds(part: Any, whole: Any) -> bool:
    """Say whether the data that was emitted has all that is expected of it."""
    if isinstance(part, Mapping):
        return isinstance(whole, Mapping) and all(
            str(key) in whole and holds(value, whole[str(key)]) for key, value in part.items()
        )
    if isinstance(part, list | tuple):
        return (
            isinstance(whole, list)
            and len(part) == len(whole)
            and all(holds(one, other) for one, other in zip(part, whole, strict=True))
        )
    return bool(part == whole) or _as_sent(part) == whole


def _as_sent(value: Any) -> Any:
    """Return a date, Decimal or UUID as the text that is sent for it."""
    from django.core.serializers.json import DjangoJSONEncoder

    try:
        return json.loads(json.dumps(value, cls=DjangoJSONEncoder))
    except TypeError:
        return value


def text_of(data: Any) -> str:
    """Return the data as short text."""
    text = json.dumps(data, default=repr, ensure_ascii=False)
    shown = text[:SHOWN]
    return shown if shown == text else f"{shown}…"

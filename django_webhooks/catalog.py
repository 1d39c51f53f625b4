"""The catalog: which event types there are, what they mean and what they look like."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .conf import settings
from .exceptions import UnknownEventType

__all__ = ["EventType", "all", "declare", "forget", "get"]

_NAME = re.compile(r"[A-Za-z0-9_]+(?:[.-][A-Za-z0-9_]+)*\Z")
_MAX_LENGTH = 100

#: Event types that begin so are ours.
RESERVED_PREFIX = "webhooks."


@dataclass(frozen=True, slots=True, kw_only=True)
class EventType:
    """One kind of event: its name, what it means, the shape of its data and an example."""

    name: str
    description: str = ""
    schema: Mapping[str, Any] | None = field(default=None, hash=False)
    example: Any = field(default=None, hash=False)
    #: Whether its events are kept where nobody listens, so that a later subscriber can have them.
    keep: bool = False


_types: dict[str, EventType] = {}


def declare(
    name: str,
    *,
    description: str = "",
    schema: Mapping[str, Any] | None = None,
    example: Any = None,
    keep: bool = False,
) -> EventType:
    """Put an event type into the catalog and return it.

    ``schema`` is the JSON Schema of the event's ``data``, ``example`` an example of it; with
    ``keep`` its events are kept for their retention where nobody listens.
    Raise ValueError when the name is malformed or already means something else.
    """
    if not is_name(name):
        raise ValueError(
            f"{name!r} is not an event type: use letters, digits and _ in parts joined by dots, "
            f"at most {_MAX_LENGTH} characters, such as 'order.paid'."
        )
    event_type = EventType(
        name=name, description=description, schema=schema, example=example, keep=keep
    )
    if _types.setdefault(name, event_type) != event_type:
        raise ValueError(
            f"The event type {name!r} is declared twice with different meanings; rename one."
        )
    return event_type


def forget(name: str) -> None:
    """Take an event type out of the catalog, if it is there."""
    _types.pop(name, None)


def all() -> list[EventType]:
    """Return every declared event type, by name."""
    return sorted(_types.values(), key=lambda event_type: event_type.name)


def get(name: str) -> EventType:
    """Return the event type of that name, or raise UnknownEventType that names the nearest one."""
    try:
        return _types[name]
    except KeyError:
        raise UnknownEventType(_unknown(name, _types)) from None


def check(name: str) -> None:
    """Raise UnknownEventType unless events of that type may be recorded."""
    if not isinstance(name, str):
        raise UnknownEventType(f"{name!r} is not an event type: use a text such as 'order.paid'.")
    if name in _types:
        return
    if not settings.WEBHOOKS_ALLOW_UNKNOWN_EVENT_TYPES:
        get(name)
    if not is_name(name):
        raise UnknownEventType(
            f"{name!r} is not an event type: use letters, digits and _ in parts joined by dots."
        )


def keeps(name: str) -> bool:
    """Say whether events of that type are kept where nobody listens."""
    declared = _types.get(name)
    return settings.WEBHOOKS_KEEP_UNHEARD or (declared is not None and declared.keep)


def is_name(name: str) -> bool:
    """Say whether the text is well-formed as the name of an event type."""
    return len(name) <= _MAX_LENGTH and _NAME.match(name) is not None


def _unknown(name: str, known: Iterable[str]) -> str:
    nearest = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {nearest[0]!r}?" if nearest else "declare it with catalog.declare()."
    return f"Nobody declared the event type {name!r}: {hint}"

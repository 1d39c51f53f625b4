"""Which patterns match an event type: its exact name, ``order.*`` and ``*``.

Events about webhooks themselves, ``webhooks.*``, are heard by those who ask for them by name.
"""

from __future__ import annotations

import re

#: Event types that begin so are about webhooks themselves.
OPERATIONAL = "webhooks."

_PATTERN = re.compile(r"(?:\*|[A-Za-z0-9_]+(?:[.-][A-Za-z0-9_]+)*(?:\.\*)?)\Z")


def candidates(event_type: str) -> list[str]:
    """Return every pattern that matches: for ``a.b.c``: ``a.b.c``, ``a.b.*``, ``a.*``, ``*``."""
    parts = event_type.split(".")
    heads = (".".join(parts[:length]) for length in range(len(parts) - 1, 0, -1))
    everything = [] if event_type.startswith(OPERATIONAL) else ["*"]
    return [event_type, *(f"{head}.*" for head in heads), *everything]


def matches(pattern: str, event_type: str) -> bool:
    """Say whether the pattern matches the event type."""
    if pattern == "*":
        return not event_type.startswith(OPERATIONAL)
    if pattern.endswith(".*"):
        return event_type.startswith(pattern[:-1])
    return pattern == event_type


def is_pattern(text: str) -> bool:
    """Say whether the text is well-formed as a pattern."""
    return len(text) <= 100 and _PATTERN.match(text) is not None

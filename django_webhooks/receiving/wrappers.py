"""Wrappers: views that others hide, found as far as Python shows what is inside a callable."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

#: Attribute of a view that receives webhooks: its handling.
ATTRIBUTE = "webhook_handling"
#: Wrappers inside one another that are looked through.
DEPTH = 4


def inside(callback: Any, *, depth: int = DEPTH) -> list[Any]:
    """Return the views that receive webhooks and that a callable wraps, itself left out."""
    found: list[Any] = []
    for one in _held(callback):
        if hasattr(one, ATTRIBUTE):
            found.append(one)
        elif depth and callable(one) and one is not callback:
            found += inside(one, depth=depth - 1)
    return found


def _held(callback: Any) -> Iterator[Any]:
    """Yield what a callable holds, or names: what is in a partial, a cell, an attribute."""
    if isinstance(callback, functools.partial):
        yield callback.func
        return
    if (owner := getattr(callback, "__self__", None)) is not None:
        yield from list(getattr(owner, "__dict__", {}).values())
    function = getattr(callback, "__func__", callback)
    for cell in getattr(function, "__closure__", None) or ():
        try:
            yield cell.cell_contents
        except ValueError:
            # It is not filled yet.
            continue
    code, names = getattr(function, "__code__", None), getattr(function, "__globals__", {})
    if code is not None:
        named = (names[name] for name in code.co_names if name in names)
        # Of all that a function names, views alone; what those others name is not its own.
        yield from (one for one in named if hasattr(one, ATTRIBUTE))
    elif not isinstance(callback, type):
        yield from list(getattr(callback, "__dict__", {}).values())

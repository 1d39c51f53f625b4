"""Blocks that send nothing."""

from __future__ import annotations

import contextvars
from collections.abc import Iterator
from contextlib import contextmanager

_is_muted: contextvars.ContextVar[bool] = contextvars.ContextVar("webhooks_muted", default=False)


@contextmanager
def muted() -> Iterator[None]:
    """Send nothing for what models do in this block: imports, data migrations. Also a decorator."""
    token = _is_muted.set(True)
    try:
        yield
    finally:
        _is_muted.reset(token)


def is_muted() -> bool:
    """Say whether this code runs in a muted block."""
    return _is_muted.get()

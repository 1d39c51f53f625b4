"""Blocks that send nothing."""

from __future__ import annotations

import contextvars
from collections.abc import Iterator
from contextlib import contextmanager

from ..conf import settings
from ..sending import recording

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
    """Say whether hooks tell nothing here: in a muted block, or where a setting turned them off."""
    if _is_muted.get():
        return True
    return not (settings.WEBHOOKS_MODEL_HOOKS or recording.is_capturing())

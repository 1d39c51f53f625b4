"""Hops: how often an event was caused by a webhook of ours, so that none goes round for ever."""

from __future__ import annotations

import contextvars
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

HEADER = "webhook-hops"
#: Webhooks, each causing the next, past which an event is not sent: chains that projects build on
#: purpose are shorter, and a loop ends within a few requests.
MAX_HOPS = 8
_MAX_DIGITS = 4

_hops: contextvars.ContextVar[int] = contextvars.ContextVar("webhooks_hops", default=0)


def current() -> int:
    """Return the hops of what happens now: 0 where no webhook caused it."""
    return _hops.get()


@contextmanager
def handling(headers: Mapping[str, str]) -> Iterator[None]:
    """Count one hop more for what is recorded within, which a received webhook causes.

    ``headers`` are those of its request. A header that is no number counts as none.
    """
    text = headers.get(HEADER) or headers.get(HEADER.title()) or ""
    is_number = text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS
    token = _hops.set(int(text) + 1 if is_number else 1)
    try:
        yield
    finally:
        _hops.reset(token)

"""Acting: who does what is done now, for the audit trail."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_who: ContextVar[str | Callable[[], str]] = ContextVar("webhooks_who", default="")


@contextmanager
def acting_as(by: str | Callable[[], str]) -> Iterator[None]:
    """Let what is changed inside be noted as done by somebody; a callable is asked when it is."""
    token = _who.set(by)
    try:
        yield
    finally:
        _who.reset(token)


def who() -> str:
    """Return who acts; empty for the system."""
    found = _who.get()
    return found() if callable(found) else found

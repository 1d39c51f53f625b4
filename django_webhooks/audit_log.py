"""The audit log, as the core knows it: a recorder is told of what somebody did, if there is one.

``django_webhooks.auditing`` installs its recorder when Django starts. Without that app nothing is
written, and nothing is asked of the database.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Protocol

from django.db import models

__all__ = ["log", "set_actor"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryDraft:
    """One thing that somebody did; ``label`` stands for the text of the subject."""

    action: str
    subject: models.Model | None = None
    label: str = ""
    by: str = ""
    detail: dict[str, Any] = field(default_factory=dict)


class Recorder(Protocol):
    """A writer of the log; each method is called in the transaction of the change it tells of."""

    def record(self, notes: Iterable[EntryDraft], *, using: str | None) -> None:
        """Write notes, by default into the database of the webhooks."""

    def updating(
        self, rows: models.QuerySet[Any], values: Mapping[str, Any]
    ) -> AbstractContextManager[None]:
        """Write which of the rows an ``update()`` inside changes, and how."""

    def added(self, rows: Iterable[models.Model], *, using: str) -> None:
        """Write that rows were added in bulk."""


_recorder: Recorder | None = None
_is_muted: ContextVar[bool] = ContextVar("webhooks_audit_is_muted", default=False)
_who: ContextVar[str | Callable[[], str]] = ContextVar("webhooks_who", default="")


def install(recorder: Recorder) -> None:
    """Let a recorder write what is logged from now on."""
    global _recorder
    _recorder = recorder


def log(
    action: str,
    subject: models.Model | None = None,
    *,
    by: str = "",
    using: str | None = None,
    **detail: Any,
) -> None:
    """Log what somebody did, such as ``endpoint.pinned``. ``detail`` holds no secret.

    Without ``by`` that is the actor of the moment (:func:`set_actor`); ``using`` is the database of
    the webhooks by default.
    """
    if _recorder is not None:
        note = EntryDraft(action=action, subject=subject, by=by, detail=detail)
        _recorder.record([note], using=using)


@contextmanager
def set_actor(by: str | Callable[[], str]) -> Iterator[None]:
    """Let what is changed inside be noted as done by somebody; a callable is asked when it is."""
    token = _who.set(by)
    try:
        yield
    finally:
        _who.reset(token)


def current_actor() -> str:
    """Return who acts; empty for the system."""
    found = _who.get()
    return found() if callable(found) else found


@contextmanager
def without_audit() -> Iterator[None]:
    """Let changes of rows inside be logged by the caller, or not at all."""
    token = _is_muted.set(True)
    try:
        yield
    finally:
        _is_muted.reset(token)


def is_muted() -> bool:
    """Return whether changes of rows are not logged now."""
    return _is_muted.get()


class AuditedQuerySet:
    """Log what is changed or made in bulk, which sends no signals; to be mixed in first."""

    def update(self: Any, **kwargs: Any) -> int:
        """Change columns, and log the change of each row."""
        recorder = None if is_muted() else _recorder
        with recorder.updating(self, kwargs) if recorder else nullcontext():
            return int(super().update(**kwargs))  # type: ignore[misc]  # the queryset's

    def bulk_create(self: Any, objs: Iterable[Any], *args: Any, **kwargs: Any) -> Any:
        """Make rows, and log each."""
        made = super().bulk_create(objs, *args, **kwargs)  # type: ignore[misc]  # the queryset's
        if _recorder is not None and not is_muted():
            _recorder.added(made, using=self.db)
        return made

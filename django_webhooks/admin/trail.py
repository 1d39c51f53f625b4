"""The trail: what a person does goes to Django's admin log and to the audit trail at once.

Changes of rows note themselves (:mod:`django_webhooks.models.audited`); the admin says who acts.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from django.contrib.admin import ModelAdmin
from django.db import models
from django.http import HttpRequest

from ..models import AuditEntry
from ..models.acting import acting_as
from ..sending import outbox

_View = TypeVar("_View", bound=Callable[..., Any])


def acting(view: _View) -> _View:
    """Let what a view changes be noted as done by the user."""

    @wraps(view)
    def wrapped(self: Any, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        with acting_as(request.user.get_username()):
            return view(self, request, *args, **kwargs)

    return wrapped  # type: ignore[return-value]  # the same signature


def note(
    admin: ModelAdmin[Any], request: HttpRequest, row: models.Model, action: str, **detail: Any
) -> None:
    """Record that the user did ``action`` to a row. ``detail`` holds no secret."""
    by = request.user.get_username()
    AuditEntry.objects.using(outbox.database()).note(action, row, by=by, **detail)
    admin.log_change(request, row, action)


class Audited:
    """Say who changes rows in forms, actions and the pages of a row."""

    @acting
    def changelist_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """List rows, and run actions."""
        return super().changelist_view(request, *args, **kwargs)  # type: ignore[misc]  # the admin's

    @acting
    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Add or change a row."""
        return super().changeform_view(request, *args, **kwargs)  # type: ignore[misc]  # the admin's

    @acting
    def delete_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Delete a row."""
        return super().delete_view(request, *args, **kwargs)  # type: ignore[misc]  # the admin's

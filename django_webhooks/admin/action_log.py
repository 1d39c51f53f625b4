"""The trail: what a person does goes to Django's admin log and to the audit trail at once.

Changes of rows are logged by themselves where the app ``auditing`` is installed; the admin says who
acts.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from django.contrib.admin import ModelAdmin
from django.db import models
from django.http import HttpRequest

from .. import audit_log
from ..audit_log import set_actor
from ..hiding import hidden_value, hiding
from ..sending import database

_View = TypeVar("_View", bound=Callable[..., Any])


def as_user(view: _View) -> _View:
    """Let what a view changes be noted as done by the user."""

    @wraps(view)
    @hiding
    def wrapped(self: Any, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        _hide_form(request)
        with set_actor(request.user.get_username()):
            return view(self, request, *args, **kwargs)

    return wrapped  # type: ignore[return-value]  # the same signature


def _hide_form(request: HttpRequest) -> None:
    """Let the form that came show none of its values to tools that report errors with requests."""
    if request.method == "POST":
        form = request.POST.copy()
        for name in form:
            form.setlist(name, [hidden_value(one) for one in form.getlist(name)])
        request.POST = form  # type: ignore[assignment]  # as Django's own middleware may


def log(
    admin: ModelAdmin[Any], request: HttpRequest, row: models.Model, action: str, **detail: Any
) -> None:
    """Record that the user did ``action`` to a row. ``detail`` holds no secret."""
    by = request.user.get_username()
    audit_log.log(action, row, using=database.alias(), by=by, **detail)
    admin.log_change(request, row, action)


class Audited:
    """Say who changes rows in forms, actions and the pages of a row."""

    @as_user
    def changelist_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """List rows, and run actions."""
        return super().changelist_view(request, *args, **kwargs)  # type: ignore[misc]  # the admin's

    @as_user
    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Add or change a row."""
        return super().changeform_view(request, *args, **kwargs)  # type: ignore[misc]  # the admin's

    @as_user
    def delete_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Delete a row."""
        return super().delete_view(request, *args, **kwargs)  # type: ignore[misc]  # the admin's

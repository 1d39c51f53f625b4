"""The trail: what a person does goes to Django's admin log and to the audit trail at once."""

from __future__ import annotations

from typing import Any

from django.contrib.admin import ModelAdmin
from django.db import models
from django.http import HttpRequest

from ..models import AuditEntry
from ..sending import outbox


def note(
    admin: ModelAdmin[Any], request: HttpRequest, row: models.Model, action: str, **detail: Any
) -> None:
    """Record that the user did ``action`` to a row. ``detail`` holds no secret."""
    by = request.user.get_username()
    AuditEntry.objects.using(outbox.database()).note(action, row, by=by, **detail)
    admin.log_change(request, row, action)


class Audited:
    """Put what is added, changed and deleted in forms into the audit trail as well."""

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        """Note that a row was added."""
        self._note(request, obj, "added", message)
        return super().log_addition(request, obj, message)  # type: ignore[misc]  # the admin's

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        """Note that a row was changed in a form; verbs note themselves."""
        if isinstance(message, list):
            self._note(request, obj, "changed", message)
        return super().log_change(request, obj, message)  # type: ignore[misc]  # the admin's

    def log_deletions(self, request: HttpRequest, queryset: Any) -> Any:
        """Note that rows were deleted."""
        for row in queryset:
            self._note(request, row, "deleted", [])
        return super().log_deletions(request, queryset)  # type: ignore[misc]  # the admin's

    def _note(self, request: HttpRequest, row: Any, verb: str, message: Any) -> None:
        if isinstance(message, str):
            return
        # The admin's own words for what changed: names of fields, no values.
        by = request.user.get_username()
        AuditEntry.objects.using(outbox.database()).note(
            f"{row._meta.model_name}.{verb}", row, by=by, changes=message
        )

"""Scope: which owners' rows a user of the admin sees, by WEBHOOKS_ADMIN_SCOPE."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.module_loading import import_string

from ..conf import settings
from ..models.owner import OwnerKey
from ..sending.replays.selection import owned

_KEPT = "_webhooks_owners"


def owners(request: HttpRequest) -> list[OwnerKey] | None:
    """Return whose rows the user of this request sees, or None for all; asked once a request."""
    if not hasattr(request, _KEPT):
        setattr(request, _KEPT, _ask(request))
    found: list[OwnerKey] | None = getattr(request, _KEPT)
    return found


def _ask(request: HttpRequest) -> list[OwnerKey] | None:
    asked: Callable[[HttpRequest], Any] | str | None = settings.WEBHOOKS_ADMIN_SCOPE
    if asked is None:
        return None
    found = (import_string(asked) if isinstance(asked, str) else asked)(request)
    return None if found is None else [OwnerKey.of(one) for one in found]


def stored(request: HttpRequest) -> list[list[str]] | None:
    """Return the same as values of JSON, for a selection."""
    found = owners(request)
    return None if found is None else [[one.type, one.id] for one in found]


def narrow(request: HttpRequest, rows: QuerySet[Any], path: str = "") -> QuerySet[Any]:
    """Keep the rows whose owner, or that of what ``path`` leads to, the user may see."""
    found = owners(request)
    return rows if found is None else rows.filter(owned(path, found))


def key_of(text: str) -> UUID | None:
    """Return the key that a message id or an id says, or None for any other text."""
    try:
        return UUID(text.removeprefix("msg_"))
    except ValueError:
        return None


class Scoped:
    """Keep to the rows that the user may see, on every page and in every action."""

    #: Leads from a row to what has the owner: ``subscription__``.
    owner_path = ""

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Leave out other owners' rows."""
        found: QuerySet[Any] = super().get_queryset(request)  # type: ignore[misc]  # the admin's
        return narrow(request, found, self.owner_path)

"""System checks of auditing: its database, and who makes changes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.apps import apps
from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error, Tags, Warning
from django.db import router

from ..checks.system_check import system_check
from ..sending import database
from .models import AuditEntry

_ACTOR = "django_webhooks.middleware.actor"
_AUTHENTICATION = "django.contrib.auth.middleware.AuthenticationMiddleware"


@system_check("webhooks", Tags.security, deploy=True)
def check_actor(**kwargs: Any) -> Iterator[CheckMessage]:
    """Check that changes of permissions are noted with who made them."""
    used = list(django_settings.MIDDLEWARE)
    if not apps.is_installed("django.contrib.auth") or _AUTHENTICATION not in used:
        return
    if _ACTOR in used[used.index(_AUTHENTICATION) :]:
        return
    yield Warning(
        "The audit trail does not know who changes permissions outside our admin pages.",
        hint=f"Put {_ACTOR!r} behind {_AUTHENTICATION!r} in MIDDLEWARE.",
        id="webhooks.W020",
    )


@system_check("webhooks")
def check_database(**kwargs: Any) -> Iterator[CheckMessage]:
    """Check that the trail is written in the transactions of what it tells of."""
    using, own = database.alias(), router.db_for_write(AuditEntry)
    if own == using:
        return
    yield Error(
        f"DATABASE_ROUTERS send django_webhooks_auditing to {own!r}, and django_webhooks to "
        f"{using!r}: the trail is written in the transactions of the latter.",
        hint="Route both app labels to one database.",
        id="webhooks.E202",
    )

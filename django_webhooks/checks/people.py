"""Who does what, as far as the audit trail can know it."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Tags, Warning, register

_ACTING = "django_webhooks.middleware.acting"
_AUTHENTICATION = "django.contrib.auth.middleware.AuthenticationMiddleware"


@register("webhooks", Tags.security, deploy=True)
def check_acting(**kwargs: Any) -> list[CheckMessage]:
    """Check that changes of permissions are noted with who made them."""
    used = list(django_settings.MIDDLEWARE)
    if not apps.is_installed("django.contrib.auth") or _AUTHENTICATION not in used:
        return []
    if _ACTING in used[used.index(_AUTHENTICATION) :]:
        return []
    return [
        Warning(
            "The audit trail does not know who changes permissions outside our admin pages.",
            hint=f"Put {_ACTING!r} behind {_AUTHENTICATION!r} in MIDDLEWARE.",
            id="webhooks.W020",
        )
    ]

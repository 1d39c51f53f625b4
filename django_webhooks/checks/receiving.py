"""How webhooks are received: what would let a captured request be repeated, or be read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Tags, Warning
from django.urls import get_resolver

from ..conf import settings
from ..receiving import views
from .system_check import system_check

#: Seconds of tolerance that are too many.
TOO_WIDE = 3600


@system_check("webhooks", Tags.security, deploy=True)
def check_receiving(**kwargs: Any) -> Iterator[CheckMessage]:
    """Check the tolerance of the views there are, and that they take https alone."""
    if getattr(django_settings, "ROOT_URLCONF", None):
        # Views are known once their module is imported.
        _ = get_resolver().url_patterns
    if any(one > TOO_WIDE for one in views.tolerances):
        yield Warning(
            "A view that receives webhooks has a tolerance of more than an hour.",
            hint="Use the default of five minutes, and keep the clock right.",
            id="webhooks.W012",
        )
    if views.tolerances and not settings.WEBHOOKS_RECEIVING_REQUIRE_HTTPS:
        yield Warning(
            "WEBHOOKS_RECEIVING_REQUIRE_HTTPS is off: webhooks can be read on their way.",
            hint="Set it to True; behind a proxy set SECURE_PROXY_SSL_HEADER as well.",
            id="webhooks.W013",
        )

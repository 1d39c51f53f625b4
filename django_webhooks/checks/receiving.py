"""How webhooks are received: what would let a captured request be repeated, or be read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Tags, Warning, register
from django.urls import get_resolver

from ..conf import settings
from ..receiving import views
from .predicates import is_number

#: Seconds of tolerance that are too many.
TOO_WIDE = 3600
#: Days for which senders repeat.
LONGEST_RETRY = 7


@register("webhooks", Tags.security, deploy=True)
def check_receiving(**kwargs: Any) -> list[CheckMessage]:
    """Check the tolerance of the views there are, and that they take https alone."""
    if getattr(django_settings, "ROOT_URLCONF", None):
        # Views are known once their module is imported.
        _ = get_resolver().url_patterns
    found: list[CheckMessage] = []
    if any(one > TOO_WIDE for one in views.tolerances):
        found.append(
            Warning(
                "A view that receives webhooks has a tolerance of more than an hour.",
                hint="Use the default of five minutes, and keep the clock right.",
                id="webhooks.W012",
            )
        )
    if views.tolerances and not settings.WEBHOOKS_RECEIVING_REQUIRE_HTTPS:
        found.append(
            Warning(
                "WEBHOOKS_RECEIVING_REQUIRE_HTTPS is off: webhooks can be read on their way.",
                hint="Set it to True; behind a proxy set SECURE_PROXY_SSL_HEADER as well.",
                id="webhooks.W013",
            )
        )
    return found


@register("webhooks")
def check_retention(**kwargs: Any) -> list[CheckMessage]:
    """Check that messages are known for as long as senders may repeat them."""
    days: Any = settings.WEBHOOKS_INBOX_RETENTION_DAYS
    kept = days.get("handled") if isinstance(days, Mapping) else None
    if not is_number(kept) or kept >= LONGEST_RETRY:
        return []
    return [
        Warning(
            "WEBHOOKS_INBOX_RETENTION_DAYS forgets messages within a week.",
            hint="Senders repeat for days; what comes again after it was forgotten is handled "
            "again. Keep them for a week or more.",
            id="webhooks.W014",
        )
    ]

"""Settings that do not go together, or that production should not have."""

from __future__ import annotations

from typing import Any

from django.core.checks import CheckMessage, Error, Tags, Warning, register

from ..conf import settings
from .predicates import is_positive

# Of the lease; see Subscription.attempt_timeout.
_LONGEST_ATTEMPT = 0.75


@register("webhooks")
def check_combinations(**kwargs: Any) -> list[CheckMessage]:
    """Check that a lease outlasts an attempt."""
    lease, timeout = settings.WEBHOOKS_LEASE_SECONDS, settings.WEBHOOKS_TIMEOUT
    if not (is_positive(lease) and is_positive(timeout)) or timeout <= lease * _LONGEST_ATTEMPT:
        return []
    return [
        Error(
            "WEBHOOKS_LEASE_SECONDS must outlast WEBHOOKS_TIMEOUT by a third.",
            hint="Make the lease longer: attempts end after three quarters of it, because a lease "
            "that ended during an attempt would let a second worker send the same.",
            id="webhooks.E023",
        )
    ]


@register("webhooks", Tags.security, deploy=True)
def check_https(**kwargs: Any) -> list[CheckMessage]:
    """Check that nothing is sent in the clear."""
    if settings.WEBHOOKS_REQUIRE_HTTPS is not False:
        return []
    return [
        Warning(
            "WEBHOOKS_REQUIRE_HTTPS is off: webhooks may be sent in the clear.",
            hint="Leave it out in production.",
            id="webhooks.W004",
        )
    ]


@register("webhooks", Tags.security, deploy=True)
def check_networks(**kwargs: Any) -> list[CheckMessage]:
    """Check that no network is open by which a URL could reach what only we should."""
    allowed = settings.WEBHOOKS_ALLOWED_NETWORKS
    if not allowed:
        return []
    return [
        Warning(
            f"WEBHOOKS_ALLOWED_NETWORKS opens {', '.join(map(str, allowed))} to webhooks.",
            hint="Whoever may enter an endpoint URL can call every host there. Open no more than "
            "receivers of yours need, then silence this check.",
            id="webhooks.W006",
        )
    ]

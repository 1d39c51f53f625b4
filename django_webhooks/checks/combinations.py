"""Settings that do not go together, or that production should not have."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.core.checks import CheckMessage, Error, Tags, Warning

from ..conf import settings
from ..sending import http
from .predicates import is_count, is_positive
from .system_check import system_check

# Of the lease; see Subscription.attempt_timeout.
_LONGEST_ATTEMPT = 0.75


@system_check("webhooks")
def check_combinations(**kwargs: Any) -> Iterator[CheckMessage]:
    """Check that a lease outlasts an attempt."""
    lease, timeout = settings.WEBHOOKS_LEASE_SECONDS, settings.WEBHOOKS_TIMEOUT_SECONDS
    if not (is_positive(lease) and is_positive(timeout)) or timeout <= lease * _LONGEST_ATTEMPT:
        return
    yield Error(
        "WEBHOOKS_LEASE_SECONDS must outlast WEBHOOKS_TIMEOUT_SECONDS by a third.",
        hint="Make the lease longer: attempts end after three quarters of it, because a lease "
        "that ended during an attempt would let a second worker send the same.",
        id="webhooks.E023",
    )


@system_check("webhooks")
def check_connections(**kwargs: Any) -> Iterator[CheckMessage]:
    """Check that there are as many connections as requests under way."""
    wanted, limit = settings.WEBHOOKS_MAX_IN_FLIGHT, settings.WEBHOOKS_MAX_CONNECTIONS
    if not (is_count(wanted) and is_count(limit)) or wanted <= (limit := http.slots().limit):
        return
    yield Warning(
        f"WEBHOOKS_MAX_IN_FLIGHT is {wanted}, and a process may have {limit} connections open.",
        hint="Raise WEBHOOKS_MAX_CONNECTIONS, or the limit of open files (ulimit -n), of which "
        "half may be connections; or lower WEBHOOKS_MAX_IN_FLIGHT. Requests wait for each "
        "other meanwhile.",
        id="webhooks.W180",
    )


@system_check("webhooks", Tags.security, deploy=True)
def check_https(**kwargs: Any) -> Iterator[CheckMessage]:
    """Check that nothing is sent in the clear."""
    if settings.WEBHOOKS_REQUIRE_HTTPS is not False:
        return
    yield Warning(
        "WEBHOOKS_REQUIRE_HTTPS is off: webhooks may be sent in the clear.",
        hint="Leave it out in production.",
        id="webhooks.W004",
    )


@system_check("webhooks", Tags.security, deploy=True)
def check_networks(**kwargs: Any) -> Iterator[CheckMessage]:
    """Check that no network is open by which a URL could reach what only we should."""
    allowed = settings.WEBHOOKS_ALLOWED_NETWORKS
    if not allowed:
        return
    yield Warning(
        f"WEBHOOKS_ALLOWED_NETWORKS opens {', '.join(map(str, allowed))} to webhooks.",
        hint="Whoever may enter an endpoint URL can call every host there. Open no more than "
        "receivers of yours need, then silence this check.",
        id="webhooks.W006",
    )

"""System checks of the inbox: how long messages are known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from django.core.checks import CheckMessage, Warning

from ..checks.predicates import is_number
from ..checks.system_check import system_check
from ..conf import settings

#: Days for which senders repeat.
LONGEST_RETRY = 7


@system_check("webhooks")
def check_retention(**kwargs: Any) -> Iterator[CheckMessage]:
    """Check that messages are known for as long as senders may repeat them."""
    days: Any = settings.WEBHOOKS_RETENTION_DAYS
    kept = days.get("inbox_handled") if isinstance(days, Mapping) else None
    if not is_number(kept) or kept >= LONGEST_RETRY:
        return
    yield Warning(
        'WEBHOOKS_RETENTION_DAYS["inbox_handled"] forgets messages within a week.',
        hint="Senders repeat for days; what comes again after it was forgotten is handled "
        "again. Keep them for a week or more.",
        id="webhooks.W014",
    )

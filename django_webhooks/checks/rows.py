"""Settings that the rows need: looked at with ``check --deploy``, since that asks the database."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.core.checks import CheckMessage, Error
from django.db import DatabaseError

from ..exceptions import InvalidKey
from ..models.reencryption import unreadable
from ..sending import database
from .system_check import system_check


@system_check("webhooks", deploy=True)
def check_rows_can_be_read(**kwargs: Any) -> Iterator[CheckMessage]:
    """Check that what is stored opens with the encryption keys there are."""
    try:
        found = unreadable(using=database.alias())
    except (DatabaseError, InvalidKey):
        # There are no tables yet, or another check says what is wrong with the keys.
        return
    if not found.values:
        return
    names = ", ".join(found.subscriptions) or "-"
    yield Error(
        f"{found.values} encrypted values cannot be read with the WEBHOOKS_ENCRYPTION_KEYS "
        f"there are; deliveries of {names} wait.",
        hint=f"Add the missing key ({', '.join(sorted(found.missing_keys))}) again."
        if found.missing_keys
        else "They were changed past this app: enter them anew.",
        id="webhooks.E100",
    )

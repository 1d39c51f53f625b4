"""Commits: what is done once the transaction of the caller is committed.

Django runs ``transaction.on_commit`` hooks for transactions that it ends itself. A project may end
them by hand (``transaction.set_autocommit(False)``, or ``AUTOCOMMIT: False`` in DATABASES); there
``on_commit`` raises TransactionManagementError, since Django cannot know of the commit.
Source: https://docs.djangoproject.com/en/stable/topics/db/transactions/#autocommit
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from django.db import transaction
from django.dispatch import Signal


def after_commit(then: Callable[[], Any], *, using: str) -> bool:
    """Call ``then`` after the commit of the current transaction, at once where there is none.

    Return False, and call nothing, where the project ends its transactions by hand: what ``then``
    does must be found by somebody else, as the sweep finds what no worker was told of.
    """
    connection = transaction.get_connection(using)
    if not (connection.in_atomic_block or connection.get_autocommit()):
        return False
    transaction.on_commit(then, using=using)
    return True


def send_after_commit(signal: Signal, *, sender: type, using: str, **arguments: Any) -> None:
    """Send a signal, robustly, after the commit of the current transaction."""
    after_commit(partial(signal.send_robust, sender=sender, **arguments), using=using)

"""Conflicts: transactions that a database refuses because of others, and that may be repeated.

With SERIALIZABLE, or REPEATABLE READ in MariaDB, two workers that read and write the same table are
often told that one of them must begin again. Ours do, after short random pauses, so that they do
not meet again. Sources:
https://www.postgresql.org/docs/current/mvcc-serialization-failure-handling.html and
https://mariadb.com/docs/server/reference/error-codes/mariadb-error-code-reference.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from django.db import OperationalError, connections

Result = TypeVar("Result")

#: PostgreSQL: serialization_failure, deadlock_detected.
_SQLSTATES = frozenset({"40001", "40P01"})
#: MariaDB and MySQL: ER_LOCK_DEADLOCK, ER_LOCK_WAIT_TIMEOUT, ER_CHECKREAD.
_NUMBERS = frozenset({1213, 1205, 1020})
#: Seconds of the first pause and of the longest, each spread over half as much to one and a half.
_PAUSES = (0.01, 0.5)
#: Seconds for which a statement is repeated.
PATIENCE = 20.0


def is_conflict(error: BaseException) -> bool:
    """Say whether the same may well succeed when it is done again."""
    cause = error.__cause__ or error
    state = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
    number = cause.args[0] if cause.args else None
    return state in _SQLSTATES or number in _NUMBERS


def pause(tries: int) -> float:
    """Return how many seconds to wait after so many tries."""
    first, longest = _PAUSES
    spread = 0.5 + random.random()  # nosec B311  # it spreads tries
    return float(min(longest, first * 2 ** min(tries, 10)) * spread)


def again(
    step: Callable[[], Result],
    *,
    using: str,
    sleep: Callable[[float], None] = time.sleep,
    patience: float = PATIENCE,
) -> Result:
    """Return what the step returns, done again while it conflicts with others.

    Not in a transaction of the caller, which only the caller can repeat. Raise OperationalError
    where it conflicts for longer than ``patience`` seconds.
    """
    ends, tries = time.monotonic() + patience, 0
    while True:
        try:
            return step()
        except OperationalError as error:
            is_over = time.monotonic() >= ends or connections[using].in_atomic_block
            if is_over or not is_conflict(error):
                raise
            sleep(pause(tries))
            tries += 1

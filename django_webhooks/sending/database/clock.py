"""The clock that all workers share: the database's, read once and carried on."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

from django.db import connections

from ... import process_state, times

#: Seconds for which a process carries on what it read for an earlier run.
CARRIED_ON = 10.0
#: Each tells UTC without a zone, whatever the zone of the session.
_QUERIES = {
    "postgresql": "SELECT clock_timestamp() AT TIME ZONE 'UTC'",
    "mysql": "SELECT UTC_TIMESTAMP(6)",
}


class DatabaseClock:
    """Tell the moment by the database's clock without asking it again.

    A worker whose own clock is wrong would otherwise end the leases of others, or hold its own for
    ever. SQLite has the clock of this machine.
    """

    def __init__(self, *, using: str) -> None:
        before = time.monotonic()
        read = _read(using)
        # The answer was read somewhere between the two moments.
        self._began = (before + time.monotonic()) / 2
        self._read = read

    def __call__(self) -> datetime:
        return self._read + timedelta(seconds=time.monotonic() - self._began)


def _read(using: str) -> datetime:
    connection = connections[using]
    query = _QUERIES.get(connection.vendor)
    if query is None:
        return times.now()
    with connection.cursor() as cursor:
        cursor.execute(query)
        moment: datetime = cursor.fetchone()[0]
    return moment.replace(tzinfo=UTC)


_shared: dict[str, tuple[float, DatabaseClock]] = process_state.remember({}, forget=dict.clear)


def carried_on(*, using: str) -> DatabaseClock:
    """Return the clock of this process, read again once in ten seconds."""
    now = time.monotonic()
    read_at, clock = _shared.get(using, (float("-inf"), None))
    if clock is None or now - read_at >= CARRIED_ON:
        clock = DatabaseClock(using=using)
        _shared[using] = (now, clock)
    return clock

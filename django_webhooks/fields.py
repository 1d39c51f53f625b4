"""Values of columns: time-ordered ids, and the database's own clock."""

from __future__ import annotations

import os
import time
import uuid
from typing import Any

from django.db.models.functions import Now


def uuid7() -> uuid.UUID:
    """Return a time-ordered unique id: UUID version 7 (RFC 9562 section 5.7).

    The 12 bits behind the version tell the moment within the millisecond (section 6.2, method 3),
    so that ids of one process are in order.
    """
    milliseconds, rest = divmod(time.time_ns(), 1_000_000)
    value = (milliseconds << 80) | 0x7 << 76 | (rest * 4096 // 1_000_000) << 64
    value |= 0b10 << 62 | int.from_bytes(os.urandom(8), "big") >> 2
    return uuid.UUID(int=value)


class DatabaseNow(Now):
    """The moment by the database's clock, which every worker shares."""

    def as_mysql(self, compiler: Any, connection: Any, **extra: Any) -> Any:
        # CURRENT_TIMESTAMP is in the session's time zone; Django stores UTC.
        return self.as_sql(compiler, connection, template="UTC_TIMESTAMP(6)", **extra)

"""Values of columns: time-ordered ids, and the database's own clock."""

from __future__ import annotations

import os
import time
import uuid
from typing import Any

from django.db.models.functions import Now


def uuid7() -> uuid.UUID:
    """Return a time-ordered unique id: UUID version 7 (RFC 9562 section 5.7)."""
    milliseconds = time.time_ns() // 1_000_000
    value = (milliseconds << 80) | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | (0x7 << 76)
    value = value & ~(0x3 << 62) | (0x2 << 62)
    return uuid.UUID(int=value)


class DatabaseNow(Now):
    """The moment by the database's clock, which every worker shares."""

    def as_mysql(self, compiler: Any, connection: Any, **extra: Any) -> Any:
        # CURRENT_TIMESTAMP is in the session's time zone; Django stores UTC.
        return self.as_sql(compiler, connection, template="UTC_TIMESTAMP(6)", **extra)

"""The event as a row, written in the transaction of its caller."""

from __future__ import annotations

from .outbox import (
    Draft,
    announce_later,
    capture,
    event_of,
    forget,
    is_capturing,
    record,
    record_for,
    rewrite,
)

__all__ = [
    "Draft",
    "announce_later",
    "capture",
    "event_of",
    "forget",
    "is_capturing",
    "record",
    "record_for",
    "rewrite",
]

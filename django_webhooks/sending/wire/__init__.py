"""The bytes of a request: its body, its headers, and what links it to other requests."""

from __future__ import annotations

from .headers import USER_AGENT, authorization, credentials, ping, request_headers, signatures
from .payloads import fields_of, is_record, serialise

__all__ = [
    "USER_AGENT",
    "authorization",
    "credentials",
    "fields_of",
    "is_record",
    "ping",
    "request_headers",
    "serialise",
    "signatures",
]

"""One request under one deadline, to an address that may be called."""

from __future__ import annotations

from .channels import NoAnswer
from .sockets import slots
from .tls import Trust
from .transport import Answer, connect, fault, get, post, request

__all__ = ["Answer", "NoAnswer", "Trust", "connect", "fault", "get", "post", "request", "slots"]

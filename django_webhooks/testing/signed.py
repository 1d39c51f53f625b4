"""Signed requests, as a receiver gets them."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from django.core.handlers.wsgi import WSGIRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedRequest:
    """A webhook as a receiver gets it: headers by lower-case name, and the body's bytes."""

    headers: Mapping[str, str]
    body: bytes

    @property
    def payload(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)

    def as_django(self, path: str = "/") -> WSGIRequest:
        """Return it as a request that a Django view takes."""
        from django.test import RequestFactory

        return RequestFactory().post(path, **self._arguments())

    def post(self, client: Any, path: str) -> Any:
        """Send it with Django's test client and return the response."""
        return client.post(path, **self._arguments())

    def _arguments(self) -> dict[str, Any]:
        headers = dict(self.headers)
        content_type = headers.pop("content-type")
        return {"data": self.body, "content_type": content_type, "headers": headers}


def signed_request(
    event_type: str,
    data: Any,
    *,
    secret: str,
    message_id: str | None = None,
    timestamp: int | None = None,
) -> SignedRequest:
    """Return a request as a sender of webhooks makes it, to test a receiver with.

    ``timestamp`` is in seconds, by default now. Raise PayloadError where ``data`` has no place in
    JSON, InvalidSecret where the secret is malformed.
    """
    from .. import times
    from ..sending import wire

    body = wire.serialise(event_type, data, recorded_at=times.now())
    message_id = message_id or f"msg_{uuid.uuid4().hex}"
    return sign(body, secret=secret, message_id=message_id, timestamp=timestamp)


def sign(
    body: bytes, *, secret: str, message_id: str, timestamp: int | None = None
) -> SignedRequest:
    """Return the request that carries a body."""
    from .. import __version__, signing

    timestamp = int(time.time()) if timestamp is None else timestamp
    signature = signing.sign(secret=secret, message_id=message_id, timestamp=timestamp, body=body)
    headers = {
        "content-type": "application/json",
        "user-agent": f"django-webhooks/{__version__}",
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signature,
        "webhook-attempt": "1",
        "webhook-max-attempts": "1",
    }
    return SignedRequest(headers=headers, body=body)

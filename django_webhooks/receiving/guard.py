"""The guard: what a request must be before a handler sees it, the cheapest question first."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest
from django.http.request import RawPostDataException

from .. import signing
from ..conf import settings
from ..exceptions import InvalidSecret, VerificationFailed, WebhooksError
from ..inbox.message import Message
from ..policies.addresses import Address, Network, networks
from . import client
from .schemes import Scheme, StandardWebhooks

logger = logging.getLogger(__name__)

#: Headers that prove who somebody is, and are for nobody behind the guard.
CREDENTIALS = frozenset({"authorization", "proxy-authorization", "cookie"})

Secrets = str | Iterable[str] | Callable[[HttpRequest], str | Iterable[str]]
Networks = Iterable[str] | Callable[[HttpRequest], Iterable[str]]


class Rejected(WebhooksError):
    """A request is refused: with which status, and for which reason, in a word."""

    def __init__(self, reason: str, status: int, detail: str = "") -> None:
        super().__init__(detail or reason)
        self.reason, self.status = reason, status


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """What is asked of each request.

    ``secrets`` are one, several (for rotation), or a callable that takes the request and returns
    them. ``allowed_networks`` limits who may call; None lets everybody. Times are in seconds, sizes
    in bytes; None takes the setting.
    """

    secrets: Secrets
    scheme: Scheme = field(default_factory=StandardWebhooks)
    tolerance: int = signing.TOLERANCE
    allowed_networks: Networks | None = None
    trusted_proxies: Iterable[str] | None = None
    content_types: Sequence[str] | None = None
    max_bytes: int | None = None
    require_https: bool | None = None

    def __post_init__(self) -> None:
        if self.tolerance < 0:
            raise ValueError("A tolerance is a number of seconds, or 0.")
        for name in ("allowed_networks", "trusted_proxies"):
            value = getattr(self, name)
            if value is not None and not callable(value):
                # Malformed ones are an error of whoever wrote them, not of the first request.
                networks(value)

    def check(self, request: HttpRequest, *, now: float | None = None) -> Message:
        """Return the message of a request, or raise Rejected."""
        try:
            return self._check(request, now=time.time() if now is None else now)
        except Rejected as rejected:
            logger.warning(
                "A webhook to %s was refused (%s): %s",
                # Decoded, it may hold lines and escapes of the sender's own.
                request.path.encode("unicode_escape").decode("ascii"),
                rejected.reason,
                rejected,
                extra={"webhooks_reason": rejected.reason, "webhooks_scheme": self.scheme.name},
            )
            raise

    def _check(self, request: HttpRequest, *, now: float) -> Message:
        if request.method != "POST":
            raise Rejected("method", 405, "Webhooks are sent by POST.")
        wants_https = self.require_https
        if wants_https is None:
            wants_https = settings.WEBHOOKS_RECEIVING_REQUIRE_HTTPS
        if wants_https and not request.is_secure():
            raise Rejected("https", 403, "Webhooks are taken by https alone.")
        self._check_network(request)
        types = self.scheme.content_types if self.content_types is None else self.content_types
        if types and request.content_type not in types:
            raise Rejected("content_type", 415, "This content type is not taken.")
        body = self._body(request)
        secrets = self._secrets(request)
        headers = {name.lower(): value for name, value in request.headers.items()}
        try:
            message = self.scheme.verify(
                secrets=secrets, headers=headers, body=body, now=now, tolerance=self.tolerance
            )
        except VerificationFailed as error:
            raise Rejected("signature", 401, str(error)) from None
        hidden = CREDENTIALS.union(self.scheme.credential_headers)
        kept = {name: value for name, value in headers.items() if name not in hidden}
        return replace(message, headers=kept)

    def client(self, request: HttpRequest) -> Address | None:
        """Return the address that a request comes from, or None where it is not known."""
        proxies = self.trusted_proxies
        if proxies is None:
            proxies = settings.WEBHOOKS_TRUSTED_PROXIES
        try:
            return client.address(
                request.META.get("REMOTE_ADDR", ""),
                request.META.get("HTTP_X_FORWARDED_FOR", ""),
                trusted=networks(proxies),
            )
        except ValueError:
            return None

    def _check_network(self, request: HttpRequest) -> None:
        allowed = self.allowed_networks
        if allowed is None:
            return
        if callable(allowed):
            allowed = allowed(request)
        found = self.client(request)
        if found is None:
            raise Rejected("network", 403, "The address of the client is not known.")
        if not client.within(found, networks(allowed)):
            raise Rejected("network", 403, f"{found} is in none of the networks that may call.")

    def _body(self, request: HttpRequest) -> bytes:
        limit = self.max_bytes
        if limit is None:
            limit = settings.WEBHOOKS_RECEIVING_MAX_BYTES
        too_large = Rejected("size", 413, f"More than {limit:,} bytes are not taken.")
        declared = request.META.get("CONTENT_LENGTH") or "0"
        is_number = declared.isascii() and declared.isdigit() and len(declared) < 20
        if not is_number or int(declared) > limit:
            raise too_large
        try:
            body = request.body
        except RequestDataTooBig:
            raise too_large from None
        except RawPostDataException:
            raise Rejected(
                "read", 500, "A middleware read the request before; let it leave webhooks alone."
            ) from None
        except OSError:
            # The sender hung up, or said that there was more.
            raise Rejected("read", 400, "The body did not come in full.") from None
        if len(body) > limit:
            raise too_large
        if len(body) < int(declared):
            # WSGI tells of a sender that hung up by an early end.
            raise Rejected("read", 400, "The body did not come in full.")
        return body

    def _secrets(self, request: HttpRequest) -> list[str]:
        secrets: Any = self.secrets
        if callable(secrets):
            secrets = secrets(request)
        found = [secrets] if isinstance(secrets, str) else list(secrets)
        if not any(found):
            raise Rejected("secrets", 500, "There is no secret to verify with; set one.")
        return [str(one) for one in found if one]


__all__ = ["Guard", "InvalidSecret", "Network", "Rejected"]

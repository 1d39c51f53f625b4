"""The guard: what a request must be before a handler sees it, the cheapest question first."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypedDict

from django.http import HttpRequest, HttpResponseBase

from .. import signing
from ..conf import settings
from ..exceptions import InvalidSecret, Rejected, TimestampRefused, VerificationFailed
from ..hiding import hidden_value, hiding
from ..policies.addresses import Address, networks
from ..policies.cleaning import written_out
from ..policies.reasons import RejectionReason
from . import body, client, parsing, schemes, targets
from .handshakes import Handshake
from .message import CREDENTIALS, Message
from .schemes import Scheme, StandardWebhooks

logger = logging.getLogger("django_webhooks.receiving")

Secrets = str | Iterable[str] | Callable[[HttpRequest], str | Iterable[str]]
Networks = Iterable[str] | Callable[[HttpRequest], Iterable[str]]


class GuardOptions(TypedDict, total=False):
    """Options of :class:`Guard` beside its secrets and its scheme, as views take them."""

    tolerance: int
    allowed_networks: Networks | None
    trusted_proxies: Iterable[str] | None
    content_types: Sequence[str] | None
    max_bytes: int | None
    require_https: bool | None
    handshake: Handshake | Sequence[Handshake] | None
    base_url: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """The conditions that each request meets.

    ``secrets`` are one, several (for rotation), or a callable that takes the request and returns
    them. ``allowed_networks`` limits who may call; None lets everybody. ``handshake`` answers what
    senders ask before they send; one, or several. ``base_url`` is how senders write scheme, host
    and prefix of the site, for schemes that sign the URL. Times are in seconds, sizes in bytes;
    None takes the setting.
    """

    secrets: Secrets = field(repr=False)
    scheme: Scheme = field(default_factory=StandardWebhooks)
    tolerance: int = signing.TOLERANCE
    allowed_networks: Networks | None = None
    trusted_proxies: Iterable[str] | None = None
    content_types: Sequence[str] | None = None
    max_bytes: int | None = None
    require_https: bool | None = None
    handshake: Handshake | Sequence[Handshake] | None = None
    base_url: str | None = None

    def __post_init__(self) -> None:
        if not callable(self.secrets):
            _as_texts(self.secrets)
        if self.base_url:
            targets.check_base(self.base_url)
        if self.tolerance < 0:
            raise ValueError("A tolerance is a number of seconds, or 0.")
        for name in ("allowed_networks", "trusted_proxies"):
            value = getattr(self, name)
            if value is not None and not callable(value):
                # Malformed ones are an error of whoever wrote them, not of the first request.
                networks(value)

    @property
    def handshakes(self) -> Sequence[Handshake]:
        """The handshakes that answer senders: the scheme's own, and those given."""
        own = getattr(self.scheme, "handshake", None)
        given = self.handshake or ()
        given = [given] if isinstance(given, Handshake) else list(given)
        return [own, *given] if own is not None else given

    @property
    def methods(self) -> Sequence[str]:
        """The methods that are answered, for the header Allow."""
        found = ["POST", *(method for one in self.handshakes for method in one.methods)]
        return list(dict.fromkeys(found))

    @hiding
    def shake(self, request: HttpRequest) -> HttpResponseBase | None:
        """Return the answer to a handshake that comes before any message; None for others.

        Raise Rejected where it is one, and is not granted.
        """
        found = [one for one in self.handshakes if request.method in {"POST", *one.methods}]
        if not found:
            return None
        with self._logged(request):
            self._check_way(request)
            answers = (one.answer(request) for one in found)
            return next((answer for answer in answers if answer is not None), None)

    @hiding
    def shake_verified(self, request: HttpRequest, message: Message) -> HttpResponseBase | None:
        """Return the answer to a handshake that is a verified message; None for others."""
        with self._logged(request):
            answers = (one.answer_message(request, message) for one in self.handshakes)
            return next((answer for answer in answers if answer is not None), None)

    @hiding
    def check(self, request: HttpRequest, *, now: float | None = None) -> Message:
        """Return the message of a request, or raise Rejected."""
        with self._logged(request):
            return self._check(request, now=time.time() if now is None else now)

    @contextmanager
    def _logged(self, request: HttpRequest) -> Iterator[None]:
        try:
            yield
        except Rejected as rejected:
            logger.warning(
                "A webhook to %s was refused (%s): %s",
                # Decoded, it may hold lines and escapes of the sender's own.
                written_out(request.path),
                rejected.reason,
                written_out(rejected),
                extra={"webhooks_reason": rejected.reason, "webhooks_scheme": self.scheme.name},
            )
            raise

    def _check(self, request: HttpRequest, *, now: float) -> Message:
        if request.method != "POST":
            allow = {"Allow": ", ".join(self.methods)}
            raise Rejected(RejectionReason.METHOD, 405, "Webhooks are sent by POST.", headers=allow)
        self._check_way(request)
        self._check_types(request)
        limit = self.max_bytes
        if limit is None:
            limit = settings.WEBHOOKS_RECEIVING_MAX_BYTES
        is_signed = getattr(self.scheme, "signs_body", True)
        content = body.read(request, limit=limit, is_signed=is_signed)
        secrets = self._secrets(request)
        headers = {name.lower(): value for name, value in request.headers.items()}
        try:
            message = schemes.verify(
                self.scheme,
                secrets=secrets,
                headers=headers,
                body=content,
                now=now,
                tolerance=self.tolerance,
                method="POST",
                urls=lambda: targets.urls(request, base=self.base_url),
            )
        except TimestampRefused as error:
            raise Rejected(RejectionReason.TIMESTAMP, 401, str(error)) from None
        except VerificationFailed as error:
            raise Rejected(RejectionReason.SIGNATURE, 401, str(error)) from None
        except InvalidSecret as error:
            raise _unusable(f"A secret of this webhook is malformed: {error}") from None
        kept = {name: value for name, value in headers.items() if name not in self._hidden}
        return replace(message, headers=kept)

    @property
    def _hidden(self) -> frozenset[str]:
        return CREDENTIALS.union(self.scheme.credential_headers)

    def hide(self, request: HttpRequest) -> None:
        """Let the credentials of a request not show in reports of errors, which send headers."""
        for name in self._hidden:
            key = f"HTTP_{name.upper().replace('-', '_')}"
            if key in request.META:
                request.META[key] = hidden_value(request.META[key])

    def _check_way(self, request: HttpRequest) -> None:
        wants_https = self.require_https
        if wants_https is None:
            wants_https = settings.WEBHOOKS_RECEIVING_REQUIRE_HTTPS
        if wants_https and not request.is_secure():
            raise Rejected(
                RejectionReason.HTTPS,
                403,
                "Webhooks are taken by https alone; behind a proxy set SECURE_PROXY_SSL_HEADER, "
                "for development set WEBHOOKS_RECEIVING_REQUIRE_HTTPS to False.",
            )
        self._check_network(request)

    def _check_types(self, request: HttpRequest) -> None:
        types = self.scheme.content_types if self.content_types is None else self.content_types
        if types and not parsing.is_taken(request.content_type or "", types):
            raise Rejected(RejectionReason.CONTENT_TYPE, 415, "This content type is not taken.")
        coding = request.META.get("HTTP_CONTENT_ENCODING", "").strip().lower()
        if coding not in {"", "identity"}:
            # RFC 9110 section 12.5.3: the answer says what would be taken.
            raise Rejected(
                RejectionReason.ENCODING,
                415,
                "A compressed body is not taken; let its sender send it as it is.",
                headers={"Accept-Encoding": "identity"},
            )

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
            raise Rejected(RejectionReason.NETWORK, 403, "The address of the client is not known.")
        if not client.within(found, networks(allowed)):
            raise Rejected(
                RejectionReason.NETWORK, 403, f"{found} is in none of the networks that may call."
            )

    def _secrets(self, request: HttpRequest) -> list[str]:
        secrets: Any = self.secrets
        if callable(secrets):
            secrets = secrets(request)
        try:
            found = _as_texts(secrets)
        except InvalidSecret as error:
            raise _unusable(str(error)) from None
        if not found:
            raise _unusable("There is no secret to verify with; set one.")
        return found


def _unusable(detail: str) -> Rejected:
    # Senders are to come again; it is for the site to mend, and no error of the request.
    return Rejected(RejectionReason.SECRETS, 503, detail)


def _as_texts(secrets: Any) -> list[str]:
    """Return the secrets that are not empty. Raise InvalidSecret where one is no text.

    Bytes would be read as numbers, and objects that hide a secret as their stars: both would be
    secrets that anybody can guess.
    """
    if secrets is None:
        return []
    if isinstance(secrets, (bytes, bytearray, Mapping)) or not isinstance(secrets, Iterable):
        raise InvalidSecret(f"Secrets are texts (str), not {type(secrets).__name__}.")
    found = [secrets] if isinstance(secrets, str) else list(secrets)
    for one in found:
        if one is not None and not isinstance(one, str):
            raise InvalidSecret(f"A secret is a text (str), not {type(one).__name__}.")
    return [one for one in found if one and one.strip()]

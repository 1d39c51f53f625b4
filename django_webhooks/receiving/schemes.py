"""Schemes: how a sender proves that a request is its own.

A scheme is any object with the attributes of :class:`Scheme`. Signatures are compared in constant
time (``hmac.compare_digest``), over the bytes of the body as they came.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from .. import signing
from ..exceptions import VerificationFailed
from ..inbox.message import Message
from . import proofs

JSON_TYPES = ("application/json",)


class Scheme(Protocol):
    """What a scheme has: a name, the content types its senders use, and the proof."""

    @property
    def name(self) -> str:
        """What it is called in logs and rows."""

    @property
    def content_types(self) -> Sequence[str]:
        """Content types that its senders use, without parameters; empty for any."""

    @property
    def credential_headers(self) -> Sequence[str]:
        """Headers that hold a credential, in lower case: they are not kept with the message."""

    def verify(
        self,
        *,
        secrets: Sequence[str],
        headers: Mapping[str, str],
        body: bytes,
        now: float,
        tolerance: int,
    ) -> Message:
        """Return the message, or raise VerificationFailed and nothing else.

        ``headers`` have lower-case names; ``now`` and ``tolerance`` are in seconds.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class StandardWebhooks:
    """Standard Webhooks 1.0, v1 and v1a; secrets are ``whsec_…`` or ``whpk_…``.

    The headers are ``webhook-…``, or ``svix-…`` of senders that have not renamed them.
    Sources: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
    and https://docs.svix.com/receiving/verifying-payloads/how-manual
    """

    name: str = "standard"
    content_types: Sequence[str] = JSON_TYPES
    credential_headers: Sequence[str] = ()

    def verify(
        self,
        *,
        secrets: Sequence[str],
        headers: Mapping[str, str],
        body: bytes,
        now: float,
        tolerance: int,
    ) -> Message:
        """See :class:`Scheme`."""
        # All three of one kind, so that none is exchanged for one of the other.
        is_named = "webhook-signature" in headers or "svix-signature" not in headers
        kind = "webhook" if is_named else "svix"
        found = {
            f"webhook-{part}": headers.get(f"{kind}-{part}", "")
            for part in ("id", "timestamp", "signature")
        }
        signing.verify(secrets=secrets, headers=found, body=body, tolerance=tolerance, now=now)
        return Message(
            scheme=self.name,
            id=proofs.message_id(found["webhook-id"]),
            body=body,
            timestamp=int(found["webhook-timestamp"]),
            headers=headers,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class GitHub:
    """``X-Hub-Signature-256``: HMAC-SHA256 of the body in hex. It signs neither time nor id.

    The id is that of a header, and a captured request can be repeated with another; with
    ``id_from_body`` it is a digest of the body, which is signed.
    Source: https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries
    """

    name: str = "github"
    content_types: Sequence[str] = ("application/json", "application/x-www-form-urlencoded")
    credential_headers: Sequence[str] = ()
    id_from_body: bool = False

    def verify(
        self,
        *,
        secrets: Sequence[str],
        headers: Mapping[str, str],
        body: bytes,
        now: float,
        tolerance: int,
    ) -> Message:
        """See :class:`Scheme`."""
        version, _, offered = proofs.header(headers, "x-hub-signature-256").partition("=")
        if version != "sha256":
            raise VerificationFailed("The X-Hub-Signature-256 does not begin with sha256=.")
        proofs.check(
            proofs.from_hex(offered),
            (hmac.digest(key, body, "sha256") for key in proofs.keys(secrets)),
        )
        return Message(
            scheme=self.name,
            id=proofs.digest(body)
            if self.id_from_body
            else proofs.message_id(proofs.header(headers, "x-github-delivery")),
            body=body,
            headers=headers,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Stripe:
    """``Stripe-Signature``: ``t=…,v1=…``, HMAC-SHA256 of timestamp and body in hex.

    The id of the message is that of the event in the body.
    Source: https://docs.stripe.com/webhooks#verify-manually
    """

    name: str = "stripe"
    content_types: Sequence[str] = JSON_TYPES
    credential_headers: Sequence[str] = ()

    def verify(
        self,
        *,
        secrets: Sequence[str],
        headers: Mapping[str, str],
        body: bytes,
        now: float,
        tolerance: int,
    ) -> Message:
        """See :class:`Scheme`."""
        pairs = [
            part.partition("=") for part in proofs.header(headers, "stripe-signature").split(",")
        ]
        times = [value for name, _, value in pairs if name.strip() == "t"]
        if len(times) != 1:
            raise VerificationFailed("The Stripe-Signature has not one timestamp.")
        timestamp = proofs.timestamp(times[0], now=now, tolerance=tolerance)
        signed = f"{times[0]}.".encode() + body
        expected = [hmac.digest(key, signed, "sha256") for key in proofs.keys(secrets)]
        # Other versions, such as the v0 of test events, prove nothing.
        offered = [proofs.from_hex(value) for name, _, value in pairs if name.strip() == "v1"]
        proofs.check_any(offered, expected)
        return Message(
            scheme=self.name,
            id=proofs.message_id(proofs.named(body, "id")),
            body=body,
            timestamp=timestamp,
            headers=headers,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Slack:
    """``X-Slack-Signature``: ``v0=`` and HMAC-SHA256 of version, timestamp and body in hex.

    The id is the ``event_id`` of an event, or a digest of what was signed.
    Source: https://api.slack.com/authentication/verifying-requests-from-slack
    """

    name: str = "slack"
    content_types: Sequence[str] = ("application/json", "application/x-www-form-urlencoded")
    credential_headers: Sequence[str] = ()

    def verify(
        self,
        *,
        secrets: Sequence[str],
        headers: Mapping[str, str],
        body: bytes,
        now: float,
        tolerance: int,
    ) -> Message:
        """See :class:`Scheme`."""
        written = proofs.header(headers, "x-slack-request-timestamp")
        timestamp = proofs.timestamp(written, now=now, tolerance=tolerance)
        version, _, offered = proofs.header(headers, "x-slack-signature").partition("=")
        if version != "v0":
            raise VerificationFailed("The X-Slack-Signature does not begin with v0=.")
        signed = f"v0:{written}:".encode() + body
        proofs.check(
            proofs.from_hex(offered),
            (hmac.digest(key, signed, "sha256") for key in proofs.keys(secrets)),
        )
        try:
            message_id = proofs.named(body, "event_id")
        except VerificationFailed:
            # Commands and interactions are forms without an id.
            message_id = proofs.digest(signed)
        return Message(
            scheme=self.name,
            id=proofs.message_id(message_id),
            body=body,
            timestamp=timestamp,
            headers=headers,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Shopify:
    """``X-Shopify-Hmac-Sha256``: HMAC-SHA256 of the body in base64. It signs neither time nor id.

    The id is that of a header, and a captured request can be repeated with another; with
    ``id_from_body`` it is a digest of the body, which is signed.
    Source: https://shopify.dev/docs/apps/build/webhooks/subscribe/https
    """

    name: str = "shopify"
    content_types: Sequence[str] = JSON_TYPES
    credential_headers: Sequence[str] = ()
    id_from_body: bool = False

    def verify(
        self,
        *,
        secrets: Sequence[str],
        headers: Mapping[str, str],
        body: bytes,
        now: float,
        tolerance: int,
    ) -> Message:
        """See :class:`Scheme`."""
        named = "x-shopify-webhook-id"
        offered = proofs.from_base64(proofs.header(headers, "x-shopify-hmac-sha256"))
        proofs.check(offered, (hmac.digest(key, body, "sha256") for key in proofs.keys(secrets)))
        return Message(
            scheme=self.name,
            id=proofs.digest(body)
            if self.id_from_body
            else proofs.message_id(proofs.header(headers, named)),
            body=body,
            headers=headers,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A header that holds a shared token: it proves who speaks, not what was said.

    For senders that sign nothing. ``prefix`` stands before the token (``Bearer ``); the id is that
    of the header ``id_header``, or a digest of the body.
    """

    header: str = "authorization"
    prefix: str = "Bearer "
    id_header: str = ""
    name: str = "token"
    content_types: Sequence[str] = JSON_TYPES

    @property
    def credential_headers(self) -> Sequence[str]:
        """The header of the token."""
        return (self.header.lower(),)

    def verify(
        self,
        *,
        secrets: Sequence[str],
        headers: Mapping[str, str],
        body: bytes,
        now: float,
        tolerance: int,
    ) -> Message:
        """See :class:`Scheme`."""
        value = proofs.header(headers, self.header.lower())
        if not value.startswith(self.prefix):
            raise VerificationFailed(f"The {self.header} header does not begin as agreed.")
        offered = value.removeprefix(self.prefix).encode("utf-8", "surrogatepass")
        proofs.check(offered, proofs.keys(secrets))
        own = proofs.header(headers, self.id_header.lower()) if self.id_header else ""
        return Message(
            scheme=self.name,
            id=proofs.message_id(own or proofs.digest(body)),
            body=body,
            headers=headers,
        )

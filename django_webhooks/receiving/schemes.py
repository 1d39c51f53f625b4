"""Schemes: how a sender proves that a request is its own.

A scheme is any object with the attributes of :class:`Scheme`. Signatures are compared in constant
time (``hmac.compare_digest``), over the bytes of the body as they came.

Four more attributes are read where a scheme has them: ``signs_url``, so that ``verify`` is given
``method`` and ``url`` as well; ``signs_body``, False where a proof says nothing of the body;
``handshake``, what its senders ask first; ``check_secret``, which raises InvalidSecret for a secret
that cannot be one.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from .. import signing
from ..exceptions import InvalidSecret, TimestampRefused, VerificationFailed
from . import signature_helpers
from .handshakes import Handshake, SlackHandshake
from .message import Message
from .parsing import FORM, JSON
from .scheme_base import Offered, SchemeBase


class Scheme(Protocol):
    """The attributes of a scheme: a name, the content types its senders use, and the proof."""

    @property
    def name(self) -> str:
        """The name in logs and rows."""

    @property
    def content_types(self) -> Sequence[str]:
        """Content types that its senders use, without parameters; empty for any.

        ``application/json`` stands for all types of JSON, and for a request that names none.
        """

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
        """Return the message; raise VerificationFailed, or InvalidSecret, and nothing else.

        Raise TimestampRefused, which is one, where the signature holds and the time does not
        (``signing.check_time``).
        ``headers`` have lower-case names; ``now`` and ``tolerance`` are in seconds.
        """


def verify(
    scheme: Scheme,
    *,
    secrets: Sequence[str],
    headers: Mapping[str, str],
    body: bytes,
    now: float,
    tolerance: int,
    method: str,
    urls: Callable[[], Sequence[str]],
) -> Message:
    """Return the message of a request, as its scheme proves it; see :class:`Scheme`.

    ``urls`` is called where the scheme signs the URL: the full one as the sender wrote it, in each
    way that it may have been written.
    """
    prove: Callable[..., Message] = partial(
        scheme.verify, secrets=secrets, headers=headers, body=body, now=now, tolerance=tolerance
    )
    if not getattr(scheme, "signs_url", False):
        return prove()
    *others, last = urls()
    for url in others:
        try:
            return prove(method=method, url=url)
        except TimestampRefused:
            raise
        except VerificationFailed:
            continue
    return prove(method=method, url=last)


@dataclass(frozen=True, slots=True, kw_only=True)
class StandardWebhooks(SchemeBase):
    """Standard Webhooks 1.0, v1 and v1a; secrets are ``whsec_…`` or ``whpk_…``.

    The headers are ``webhook-…``, or ``svix-…`` of senders that have not renamed them.
    Sources:
    https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md and
    https://docs.svix.com/receiving/verifying-payloads/how-manual
    """

    name: str = "standard"

    def prove(self, offered: Offered) -> tuple[str, int | None]:
        """Verify the signature over id, timestamp and body."""
        # All three of one kind, so that none is exchanged for one of the other.
        headers = offered.headers
        is_named = "webhook-signature" in headers or "svix-signature" not in headers
        kind = "webhook" if is_named else "svix"
        found = {
            f"webhook-{part}": headers.get(f"{kind}-{part}", "")
            for part in ("id", "timestamp", "signature")
        }
        signing.verify(
            secrets=self._usable(offered.secrets),
            headers=found,
            body=offered.body,
            tolerance=offered.tolerance,
            now=offered.now,
        )
        return found["webhook-id"], int(found["webhook-timestamp"])

    def check_secret(self, secret: str) -> None:
        """Raise InvalidSecret unless requests can be verified with the secret."""
        signing.check_verifier(_bare(secret))

    def _usable(self, secrets: Sequence[str]) -> list[str]:
        """Return the secrets that are well formed; raise InvalidSecret where none is."""
        found: list[str] = []
        malformed: InvalidSecret | None = None
        for one in secrets:
            try:
                self.check_secret(one)
            except InvalidSecret as error:
                malformed = error
            else:
                found.append(_bare(one))
        if malformed and not found:
            raise malformed
        return found


def _bare(secret: str) -> str:
    """Return a secret of Standard Webhooks without what may be copied along with it.

    Some senders show it behind the version of its signatures: ``v1,whsec_…``.
    """
    secret = secret.strip()
    for version in (signing.HMAC, signing.ED25519):
        secret = secret.removeprefix(f"{version},")
    return secret


@dataclass(frozen=True, slots=True, kw_only=True)
class GitHub(SchemeBase):
    """``X-Hub-Signature-256``: HMAC-SHA256 of the body in hex. It signs neither time nor id.

    The id is that of a header, and a captured request can be repeated with another; with
    ``id_from_body`` it is a digest of the body, which is signed.
    Source: https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries
    """

    name: str = "github"
    content_types: Sequence[str] = (JSON, FORM)
    id_from_body: bool = False

    def prove(self, offered: Offered) -> tuple[str, int | None]:
        """Verify the signature over the body."""
        signature = offered.header("X-Hub-Signature-256", prefix="sha256=")
        offered.check_hmac(signature_helpers.from_hex(signature), offered.body)
        own = self.id_from_body
        return signature_helpers.digest(offered.body) if own else offered.header(
            "X-GitHub-Delivery"
        ), None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stripe(SchemeBase):
    """``Stripe-Signature``: ``t=…,v1=…``, HMAC-SHA256 of timestamp and body in hex.

    The id of the message is that of the event in the body.
    Source: https://docs.stripe.com/webhooks#verify-manually
    """

    name: str = "stripe"

    def prove(self, offered: Offered) -> tuple[str, int | None]:
        """Verify a signature over timestamp and body."""
        pairs = [part.partition("=") for part in offered.header("Stripe-Signature").split(",")]
        times = [value for name, _, value in pairs if name.strip() == "t"]
        if len(times) != 1:
            raise VerificationFailed("The Stripe-Signature has not one timestamp.")
        timestamp = signing.parse_timestamp(times[0])
        signed = f"{times[0]}.".encode() + offered.body
        expected = [
            hmac.digest(key, signed, "sha256") for key in signature_helpers.keys(offered.secrets)
        ]
        # Other versions, such as the v0 of test events, prove nothing.
        signatures = [
            signature_helpers.from_hex(value) for name, _, value in pairs if name.strip() == "v1"
        ]
        signature_helpers.check_any(signatures, expected)
        offered.check_time(timestamp)
        return signature_helpers.named(offered.body, "id"), timestamp


@dataclass(frozen=True, slots=True, kw_only=True)
class Slack(SchemeBase):
    """``X-Slack-Signature``: ``v0=`` and HMAC-SHA256 of version, timestamp and body in hex.

    The id is the ``event_id`` of an event, or a digest of what was signed.
    Source: https://api.slack.com/authentication/verifying-requests-from-slack
    """

    name: str = "slack"
    content_types: Sequence[str] = (JSON, FORM)
    handshake: Handshake = field(default_factory=SlackHandshake)

    def prove(self, offered: Offered) -> tuple[str, int | None]:
        """Verify the signature over version, timestamp and body."""
        written = offered.header("X-Slack-Request-Timestamp")
        timestamp = signing.parse_timestamp(written)
        signature = offered.header("X-Slack-Signature", prefix="v0=")
        signed = f"v0:{written}:".encode() + offered.body
        offered.check_hmac(signature_helpers.from_hex(signature), signed)
        offered.check_time(timestamp)
        try:
            return signature_helpers.named(offered.body, "event_id"), timestamp
        except VerificationFailed:
            # Commands and interactions are forms without an id.
            return signature_helpers.digest(signed), timestamp


@dataclass(frozen=True, slots=True, kw_only=True)
class Shopify(SchemeBase):
    """``X-Shopify-Hmac-Sha256``: HMAC-SHA256 of the body in base64. It signs neither time nor id.

    The id is that of a header, and a captured request can be repeated with another; with
    ``id_from_body`` it is a digest of the body, which is signed.
    Source: https://shopify.dev/docs/apps/build/webhooks/subscribe/https
    """

    name: str = "shopify"
    id_from_body: bool = False

    def prove(self, offered: Offered) -> tuple[str, int | None]:
        """Verify the signature over the body."""
        signature = signature_helpers.from_base64(offered.header("X-Shopify-Hmac-Sha256"))
        offered.check_hmac(signature, offered.body)
        own = self.id_from_body
        return signature_helpers.digest(offered.body) if own else offered.header(
            "X-Shopify-Webhook-Id"
        ), None


@dataclass(frozen=True, slots=True, kw_only=True)
class Token(SchemeBase):
    """A header that holds a shared token: it proves who speaks, not what was said.

    For senders that sign nothing. ``prefix`` stands before the token (``Bearer ``); the id is that
    of the header ``id_header``, or a digest of the body; with ``always_new`` each request is a
    message of its own, for senders that say the same each time that something happens.
    """

    header: str = "authorization"
    prefix: str = "Bearer "
    id_header: str = ""
    always_new: bool = False
    name: str = "token"
    signs_body: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "credential_headers", (self.header.lower(),))

    def prove(self, offered: Offered) -> tuple[str, int | None]:
        """Compare the token with the secrets."""
        token = offered.header(self.header, prefix=self.prefix)
        signature_helpers.check(
            token.encode("utf-8", "surrogatepass"), signature_helpers.keys(offered.secrets)
        )
        own = offered.header(self.id_header) if self.id_header else ""
        return own or signature_helpers.own_id(offered.body, always_new=self.always_new), None

"""Standard Webhooks 1.0 signatures: made when sending, verified when receiving.

Signed is ``{webhook-id}.{webhook-timestamp}.{body}``.
Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import secrets as random_secrets
import time
from collections.abc import Iterable, Mapping

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from .exceptions import InvalidSecret, TimestampRefused, VerificationFailed
from .hiding import hiding

__all__ = [
    "check_time",
    "generate_key_pair",
    "generate_secret",
    "jwk",
    "public_key",
    "sign",
    "verify",
]

PREFIX = "whsec_"
#: Of an Ed25519 key pair: the sender's half, and what it publishes.
PRIVATE_PREFIX, PUBLIC_PREFIX = "whsk_", "whpk_"
MIN_BYTES, MAX_BYTES = 24, 64

#: Kinds of keys, as signatures name them.
HMAC, ED25519 = "v1", "v1a"

#: Signatures that are looked at in one request: each of Ed25519 costs time, whoever made it.
MAX_SIGNATURES = 32

#: Seconds by which a request's timestamp may differ from now, either way.
TOLERANCE = 300


def generate_secret() -> str:
    """Return a new signing secret: ``whsec_`` and 32 random bytes in base64."""
    return PREFIX + base64.b64encode(random_secrets.token_bytes(32)).decode("ascii")


def generate_key_pair() -> str:
    """Return a new Ed25519 key pair: ``whsk_`` and seed and public key in base64."""
    key = Ed25519PrivateKey.generate()
    pair = key.private_bytes_raw() + key.public_key().public_bytes_raw()
    return PRIVATE_PREFIX + base64.b64encode(pair).decode("ascii")


def generate(kind: str = HMAC) -> str:
    """Return a new secret of a kind, ``v1`` or ``v1a``."""
    return generate_key_pair() if kind == ED25519 else generate_secret()


def kind_of(secret: str) -> str:
    """Return what a secret signs: ``v1`` or ``v1a``."""
    return ED25519 if secret.startswith(PRIVATE_PREFIX) else HMAC


@hiding
def public_key(secret: str) -> str:
    """Return the ``whpk_…`` that verifies what a ``whsk_…`` signs."""
    public = _private_key(secret).public_key().public_bytes_raw()
    return PUBLIC_PREFIX + base64.b64encode(public).decode("ascii")


@hiding
def jwk(secret: str) -> dict[str, str]:
    """Return the public key of a ``whsk_…`` as a JSON Web Key (RFC 8037 section 2).

    ``kid`` is its thumbprint (RFC 7638).
    """
    public = _private_key(secret).public_key().public_bytes_raw()
    found = {"crv": "Ed25519", "kty": "OKP", "x": _base64url(public)}
    thumbprint = hashlib.sha256(json.dumps(found, separators=(",", ":")).encode()).digest()
    return {**found, "kid": _base64url(thumbprint), "use": "sig", "alg": "EdDSA"}


@hiding
def github(*, secret: str, body: bytes) -> str:
    """Return the value of an ``X-Hub-Signature-256`` header, keyed by the secret as a text.

    Source: https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries
    """
    return "sha256=" + hmac.digest(secret.encode(), body, hashlib.sha256).hex()


@hiding
def stripe(*, secrets: Iterable[str], timestamp: int, body: bytes) -> str:
    """Return the value of a ``Stripe-Signature`` header, keyed by each secret as a text.

    Source: https://docs.stripe.com/webhooks#verify-manually
    """
    signed = f"{timestamp}.".encode() + body
    made = [hmac.digest(one.encode(), signed, hashlib.sha256).hex() for one in secrets]
    return ",".join([f"t={timestamp}", *(f"v1={one}" for one in made)])


@hiding
def key_bytes(secret: str) -> bytes:
    """Return the key of a secret, with or without its prefix, or raise InvalidSecret."""
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise InvalidSecret(
            f"A signing secret is {PREFIX} followed by base64; copy it again in full."
        ) from None
    if not MIN_BYTES <= len(key) <= MAX_BYTES:
        raise InvalidSecret(
            f"A signing secret holds {MIN_BYTES} to {MAX_BYTES} random bytes, "
            f"this one {len(key)}; generate one with signing.generate_secret()."
        )
    return key


@hiding
def check_secret(secret: str) -> None:
    """Raise InvalidSecret unless requests can be signed with the secret."""
    if secret.startswith(PRIVATE_PREFIX):
        _private_key(secret)
    else:
        key_bytes(secret)


@hiding
def check_verifier(secret: str) -> None:
    """Raise InvalidSecret unless requests can be verified with the secret."""
    if secret.startswith((PRIVATE_PREFIX, PUBLIC_PREFIX)):
        _public_key(secret)
    else:
        key_bytes(secret)


@hiding
def sign(*, secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """Return the signature of a request: ``v1,…`` (HMAC-SHA256) or ``v1a,…`` (Ed25519), in base64.

    The secret is ``whsec_…`` or ``whsk_…``; raise InvalidSecret where it is malformed.
    """
    signed = _signed(message_id, timestamp, body)
    if secret.startswith(PRIVATE_PREFIX):
        return "v1a," + base64.b64encode(_private_key(secret).sign(signed)).decode("ascii")
    return "v1," + base64.b64encode(_digest(key_bytes(secret), signed)).decode("ascii")


@hiding
def verify(
    *,
    secrets: Iterable[str],
    headers: Mapping[str, str],
    body: bytes,
    tolerance: int = TOLERANCE,
    now: float | None = None,
) -> None:
    """Raise VerificationFailed unless a signature of the request was made with one of the secrets.

    Raise TimestampRefused where one was, but more than ``tolerance`` seconds from now: whoever
    does not know a secret learns nothing of our clock.

    Secrets are ``whsec_…``, or ``whpk_…`` of a sender that signs with Ed25519. Headers are looked
    up by lower-case name first, then as they are usually written, so that Django's
    ``request.headers`` and plain dictionaries both serve. ``now`` is in seconds.
    """
    message_id = _header(headers, "webhook-id")
    timestamp = parse_timestamp(_header(headers, "webhook-timestamp"))
    offered = _header(headers, "webhook-signature")
    if "." in message_id:
        # The specification forbids it: a dot would move the borders between id, time and body.
        raise VerificationFailed("The webhook-id holds a dot.")
    signed = _signed(message_id, timestamp, body)
    secrets = list(secrets)
    asymmetric = (PRIVATE_PREFIX, PUBLIC_PREFIX)
    expected = [
        _digest(key_bytes(one), signed) for one in secrets if not one.startswith(asymmetric)
    ]
    public_keys = [_public_key(one) for one in secrets if one.startswith(asymmetric)]
    signatures = offered.split()
    if len(signatures) > MAX_SIGNATURES:
        raise VerificationFailed(f"The request has more than {MAX_SIGNATURES} signatures.")
    for signature in signatures:
        version, _, encoded = signature.partition(",")
        try:
            given = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            continue
        if version == "v1" and any(hmac.compare_digest(given, one) for one in expected):
            break
        if version == "v1a" and any(_holds(key, given, signed) for key in public_keys):
            break
    else:
        raise VerificationFailed("No signature of this request was made with a known secret.")
    check_time(timestamp, now=time.time() if now is None else now, tolerance=tolerance)


def parse_timestamp(text: str) -> int:
    """Return the seconds since 1970 in a header; raise VerificationFailed where it has none."""
    if not (text.isascii() and text.isdigit() and len(text) <= 12):
        raise VerificationFailed("The timestamp is not a number of seconds.")
    if text != str(int(text)):
        # Zeros before it are not what was signed.
        raise VerificationFailed("The timestamp begins with a zero.")
    return int(text)


def check_time(timestamp: int, *, now: float, tolerance: int) -> None:
    """Raise TimestampRefused where a moment is more than ``tolerance`` seconds from now.

    All are in seconds. Call it once the signature holds: it tells of our clock.
    """
    if abs(now - timestamp) > tolerance:
        raise TimestampRefused(timestamp - now, tolerance=tolerance)


def _signed(message_id: str, timestamp: int, body: bytes) -> bytes:
    # A lone surrogate in an id, which no sender signed, must not become an error of its own.
    return f"{message_id}.{timestamp}.".encode(errors="surrogatepass") + body


def _digest(key: bytes, signed: bytes) -> bytes:
    return hmac.digest(key, signed, hashlib.sha256)


def _holds(key: Ed25519PublicKey, signature: bytes, signed: bytes) -> bool:
    try:
        key.verify(signature, signed)
    except InvalidSignature:
        return False
    return True


def _private_key(secret: str) -> Ed25519PrivateKey:
    # The seed, then the public key that follows from it.
    pair = _decoded(secret, PRIVATE_PREFIX, length=64)
    key = Ed25519PrivateKey.from_private_bytes(pair[:32])
    if key.public_key().public_bytes_raw() != pair[32:]:
        raise InvalidSecret(f"The halves of this {PRIVATE_PREFIX} key do not belong together.")
    return key


def _public_key(secret: str) -> Ed25519PublicKey:
    if secret.startswith(PRIVATE_PREFIX):
        return _private_key(secret).public_key()
    return Ed25519PublicKey.from_public_bytes(_decoded(secret, PUBLIC_PREFIX, length=32))


def _decoded(secret: str, prefix: str, *, length: int) -> bytes:
    try:
        key = base64.b64decode(secret.removeprefix(prefix), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != length:
        raise InvalidSecret(f"A {prefix} key is base64 of {length} bytes; copy it again in full.")
    return key


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _header(headers: Mapping[str, str], name: str) -> str:
    value = headers.get(name) or headers.get(name.title())
    if not value:
        raise VerificationFailed(f"The request has no {name} header.")
    return value

"""Parts of a proof that schemes have in common: what a request offers, and what is expected.

Whatever a stranger writes is refused with VerificationFailed, and raises nothing else.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping, Sequence

from ..exceptions import VerificationFailed

#: Longest id of a message that is taken.
MAX_ID = 200


def header(headers: Mapping[str, str], name: str) -> str:
    """Return a header, by its name in lower case; raise VerificationFailed where it is missing."""
    value = headers.get(name, "").strip()
    if not value:
        raise VerificationFailed(f"The request has no {name} header.")
    return value


def keys(secrets: Iterable[str]) -> list[bytes]:
    """Return the secrets as bytes, without those that are empty."""
    # An empty secret would let everybody in.
    return [one.encode() for one in secrets if one]


def check(offered: bytes, expected: Iterable[bytes]) -> None:
    """Raise VerificationFailed where the signature is none of those expected."""
    check_any([offered], list(expected))


def check_any(offered: Sequence[bytes], expected: Sequence[bytes]) -> None:
    """Raise VerificationFailed where none of the signatures is one of those expected."""
    # Each is compared, whichever holds.
    held = [hmac.compare_digest(one, other) for one in offered for other in expected]
    if not any(held):
        raise VerificationFailed("No signature of this request was made with a known secret.")


def digest(content: bytes) -> str:
    """Return the SHA-256 of the content in hex."""
    return hashlib.sha256(content).hexdigest()


def from_hex(text: str) -> bytes:
    """Return the bytes of a text in hex; none where it is something else."""
    try:
        return bytes.fromhex(text) if text.isascii() and text.isalnum() else b""
    except ValueError:
        return b""


def from_base64(text: str) -> bytes:
    """Return the bytes of a text in base64; none where it is something else."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""


def timestamp(text: str, *, now: float, tolerance: int) -> int:
    """Return the seconds since 1970 that the text says; raise VerificationFailed.

    ``now`` and ``tolerance`` are in seconds; the tolerance holds both ways.
    """
    if not (text.isascii() and text.isdigit() and len(text) <= 12):
        raise VerificationFailed("The timestamp is not a number of seconds.")
    if abs(now - int(text)) > tolerance:
        raise VerificationFailed(
            f"The timestamp is more than {tolerance} seconds from now; check both clocks."
        )
    return int(text)


def named(body: bytes, name: str) -> str:
    """Return a text of the JSON object in the body; raise VerificationFailed without it."""
    try:
        found = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError):
        found = None
    value = found.get(name) if isinstance(found, dict) else None
    if not isinstance(value, str) or not value:
        raise VerificationFailed(f"The body is no JSON object with a text {name!r}.")
    return value


def message_id(text: str) -> str:
    """Return the id of a message, if it is plain text of at most MAX_ID characters.

    Raise VerificationFailed otherwise.
    """
    if len(text) > MAX_ID or not text.isprintable() or not text.isascii():
        raise VerificationFailed("The id of the message is too long, or not plain text.")
    return text

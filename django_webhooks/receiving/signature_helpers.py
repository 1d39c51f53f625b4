"""Parts of a proof that schemes have in common: what a request offers, and what is expected.

Whatever a stranger writes is refused with VerificationFailed, and raises nothing else.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import uuid
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
    """Return the secrets as bytes, without those that are empty.

    One with white space around it, as files and forms leave it there, is taken without it too.
    """
    found = dict.fromkeys(way for one in secrets for way in (one, one.strip()))
    # An empty secret would let everybody in.
    return [one.encode() for one in found if one.strip()]


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


def own_id(body: bytes, *, always_new: bool) -> str:
    """Return an id for a message that has none: of its body, or of its arrival alone."""
    return f"new-{uuid.uuid4().hex}" if always_new else digest(body)


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


def named(body: bytes, name: str) -> str:
    """Return a text of the JSON object in the body; raise VerificationFailed without it."""
    try:
        found = json.loads(body.decode("utf-8-sig"))
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

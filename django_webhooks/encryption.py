"""Encryption at rest: what the database keeps of URLs, credentials and signing keys.

A ciphertext is ``wh1:{key id}:{base64url of nonce, ciphertext and tag}``: AES-256-GCM (NIST
SP 800-38D) under a key derived by HKDF-SHA256 (RFC 5869) from the first of
``WEBHOOKS_ENCRYPTION_KEYS``; all of them decrypt. The place it is kept in, a table and a column, is
authenticated with it, so that a ciphertext does not open in another place.
"""

from __future__ import annotations

import base64
import binascii
import functools
import hashlib
import hmac
import os
import re
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings as django_settings

from .conf import settings
from .exceptions import InvalidKey, NotDecrypted

PREFIX = "wh1:"
KEY_BYTES = 32
_NONCE_BYTES = 12
#: Hexadecimal digits of a key's id and of a blind index.
_ID_DIGITS, _INDEX_DIGITS = 8, 32


@dataclass(frozen=True, slots=True)
class Key:
    """What is derived from one secret: a public id, a cipher, keys for blind indexes and seals."""

    id: str
    cipher: AESGCM = field(repr=False)
    index_key: bytes = field(repr=False)
    seal_key: bytes = field(repr=False)


def generate_key() -> str:
    """Return a new key for WEBHOOKS_ENCRYPTION_KEYS: 32 random bytes in URL-safe base64."""
    return base64.urlsafe_b64encode(os.urandom(KEY_BYTES)).decode("ascii")


def derived_key() -> str:
    """Return the key that SECRET_KEY stands for where WEBHOOKS_ENCRYPTION_KEYS is not set.

    In the setting, behind a key of its own, it decrypts what was written before.
    """
    return base64.urlsafe_b64encode(_of_project(django_settings.SECRET_KEY)).decode("ascii")


def key_bytes(text: str) -> bytes:
    """Return the bytes of a key as the setting has it, or raise InvalidKey."""
    try:
        key = base64.b64decode(text.translate(_STANDARD), validate=True)
    except (binascii.Error, ValueError, AttributeError):
        key = b""
    if len(key) != KEY_BYTES:
        raise InvalidKey(
            f"A key of WEBHOOKS_ENCRYPTION_KEYS is base64 of {KEY_BYTES} random bytes; "
            "make one with 'manage.py webhooks_generate_key'."
        )
    return key


def keys() -> tuple[Key, ...]:
    """Return the key ring as the settings have it; the first encrypts.

    Without WEBHOOKS_ENCRYPTION_KEYS, the keys are derived from SECRET_KEY and its fallbacks.
    """
    texts = settings.WEBHOOKS_ENCRYPTION_KEYS
    if texts:
        return _ring(tuple(texts))
    fallbacks = getattr(django_settings, "SECRET_KEY_FALLBACKS", ())
    return _ring_of_project((django_settings.SECRET_KEY, *fallbacks))


def encrypt(text: str, *, place: str) -> str:
    """Return the ciphertext of a text for a place, such as ``django_webhooks_endpoint.url``."""
    key, nonce = keys()[0], os.urandom(_NONCE_BYTES)
    sealed = nonce + key.cipher.encrypt(nonce, text.encode(), _bound_to(place))
    return f"{PREFIX}{key.id}:{base64.urlsafe_b64encode(sealed).decode('ascii')}"


def decrypt(ciphertext: str, *, place: str) -> str:
    """Return the text of a ciphertext that was made for the place.

    Raise NotDecrypted where its key is not in the key ring, and where it was changed or belongs
    to another place.
    """
    if not is_ciphertext(ciphertext):
        # It might be a secret that was written past the models: it is not quoted.
        raise NotDecrypted(
            "What is stored is no ciphertext; enter the value again.", is_key_missing=False
        )
    id = key_id(ciphertext)
    known = [key for key in keys() if key.id == id]
    if not known:
        raise NotDecrypted(
            f"The key {id} is not in WEBHOOKS_ENCRYPTION_KEYS; add it again.", is_key_missing=True
        )
    try:
        sealed = base64.b64decode(ciphertext.rpartition(":")[2].translate(_STANDARD), validate=True)
        nonce, sealed = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
        return known[0].cipher.decrypt(nonce, sealed, _bound_to(place)).decode()
    except (InvalidTag, binascii.Error, ValueError):
        raise NotDecrypted(
            "The ciphertext was changed, or belongs to another place; enter the value again.",
            is_key_missing=False,
        ) from None


def is_ciphertext(text: str) -> bool:
    """Say whether the text is the result of :func:`encrypt`, as far as its form tells."""
    return text.startswith(PREFIX)


def key_id(ciphertext: str) -> str:
    """Return the id of the key that a ciphertext needs."""
    return ciphertext.removeprefix(PREFIX).partition(":")[0]


def is_current(ciphertext: str) -> bool:
    """Say whether the ciphertext was made with the key that encrypts now."""
    return key_id(ciphertext) == keys()[0].id


def blind_index(text: str, *, place: str) -> str:
    """Return a keyed digest by which an equal text is found, and nothing else is learnt."""
    return _digest(keys()[0], text, place=place)


def blind_indexes(text: str, *, place: str) -> list[str]:
    """Return the digests of a text under all keys: rows written before a rotation are found too."""
    return [_digest(key, text, place=place) for key in keys()]


def seal(text: str, *, place: str) -> str:
    """Return ``{key id}:{HMAC-SHA256}``, by which it is seen that one of us wrote the text."""
    key = keys()[0]
    return f"{key.id}:{_seal(key, text, place=place)}"


def seal_holds(text: str, seal: str, *, place: str) -> bool | None:
    """Say whether a seal is that of the text; None where its key is not in the key ring."""
    id, _, code = seal.partition(":")
    if not re.fullmatch(rf"[0-9a-f]{{{_ID_DIGITS}}}", id):
        return False
    known = [key for key in keys() if key.id == id]
    if not known:
        return None
    return hmac.compare_digest(_seal(known[0], text, place=place).encode(), code.encode())


def _seal(key: Key, text: str, *, place: str) -> str:
    content = _bound_to(place) + b"\0" + text.encode()
    return hmac.digest(key.seal_key, content, hashlib.sha256).hex()


def _digest(key: Key, text: str, *, place: str) -> str:
    content = _bound_to(place) + b"\0" + text.encode()
    return hmac.digest(key.index_key, content, hashlib.sha256).hex()[:_INDEX_DIGITS]


def _bound_to(place: str) -> bytes:
    return b"django_webhooks\0" + place.encode()


@functools.lru_cache(maxsize=8)
def _ring(texts: tuple[str, ...]) -> tuple[Key, ...]:
    return tuple(_key(key_bytes(text)) for text in texts)


@functools.lru_cache(maxsize=8)
def _ring_of_project(secrets: tuple[str | bytes, ...]) -> tuple[Key, ...]:
    return tuple(_key(_of_project(one)) for one in secrets)


def _of_project(secret: str | bytes) -> bytes:
    return _derive(secret.encode() if isinstance(secret, str) else secret, "of SECRET_KEY")


def _key(secret: bytes) -> Key:
    return Key(
        id=_derive(secret, "key id").hex()[:_ID_DIGITS],
        cipher=AESGCM(_derive(secret, "encryption")),
        index_key=_derive(secret, "blind index"),
        seal_key=_derive(secret, "seal"),
    )


def _derive(secret: bytes, purpose: str) -> bytes:
    info = f"django_webhooks {purpose}".encode()
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=info).derive(secret)


_STANDARD = str.maketrans("-_", "+/")

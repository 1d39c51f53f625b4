"""Encryption at rest: what the database keeps of URLs, credentials and signing keys.

A ciphertext is ``wh1:{key id}:{base64url of nonce, ciphertext and tag}``: AES-256-GCM (NIST
SP 800-38D) under a key derived by HKDF-SHA256 (RFC 5869) from the first of
``WEBHOOKS_ENCRYPTION_KEYS``; all of them decrypt. The context, a table and a column, is
authenticated with it, so that a ciphertext does not open in another context.
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

from . import process_state
from .conf import settings
from .exceptions import InvalidKey, NotDecrypted
from .hiding import hiding

__all__ = ["derived_key", "generate_key"]

PREFIX = "wh1:"
KEY_BYTES = 32
_NONCE_BYTES = 12
#: Hexadecimal digits of a key's id and of a blind index.
_ID_DIGITS, _INDEX_DIGITS = 8, 32


@dataclass(frozen=True, slots=True)
class Key:
    """A key derived from one secret: a public id, a cipher, keys for blind indexes and MACs."""

    id: str
    cipher: AESGCM = field(repr=False)
    index_key: bytes = field(repr=False)
    mac_key: bytes = field(repr=False)


def generate_key() -> str:
    """Return a new key for WEBHOOKS_ENCRYPTION_KEYS: 32 random bytes in URL-safe base64."""
    return base64.urlsafe_b64encode(os.urandom(KEY_BYTES)).decode("ascii")


@hiding
def derived_key() -> str:
    """Return the key that SECRET_KEY stands for where WEBHOOKS_ENCRYPTION_KEYS is not set.

    In the setting, behind a key of its own, it decrypts what was written before.
    """
    return base64.urlsafe_b64encode(_of_project(django_settings.SECRET_KEY)).decode("ascii")


@hiding
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


@hiding
def keys() -> tuple[Key, ...]:
    """Return the key ring as the settings have it; the first encrypts.

    Without WEBHOOKS_ENCRYPTION_KEYS, the keys are derived from SECRET_KEY and its fallbacks.
    """
    texts = settings.WEBHOOKS_ENCRYPTION_KEYS
    if texts:
        return _ring(tuple(texts))
    fallbacks = getattr(django_settings, "SECRET_KEY_FALLBACKS", ())
    return _ring_of_project((django_settings.SECRET_KEY, *fallbacks))


@hiding
def encrypt(text: str, *, context: str) -> str:
    """Return the ciphertext of a text in a context, such as ``django_webhooks_endpoint.url``."""
    key, nonce = keys()[0], os.urandom(_NONCE_BYTES)
    encrypted = nonce + key.cipher.encrypt(nonce, text.encode(), _bound_to(context))
    return f"{PREFIX}{key.id}:{base64.urlsafe_b64encode(encrypted).decode('ascii')}"


@hiding
def decrypt(ciphertext: str, *, context: str) -> str:
    """Return the text of a ciphertext that was made in the context.

    Raise NotDecrypted where its key is not in the key ring, and where it was changed or belongs
    to another place.
    """
    if not is_ciphertext(ciphertext):
        # The value might be a secret that was written past the models: it is not quoted.
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
        text = ciphertext.rpartition(":")[2].translate(_STANDARD)
        encrypted = base64.b64decode(text, validate=True)
        nonce, encrypted = encrypted[:_NONCE_BYTES], encrypted[_NONCE_BYTES:]
        return known[0].cipher.decrypt(nonce, encrypted, _bound_to(context)).decode()
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


@hiding
def is_current(ciphertext: str) -> bool:
    """Say whether the ciphertext was made with the key that encrypts now."""
    return key_id(ciphertext) == keys()[0].id


@hiding
def blind_index(text: str, *, context: str) -> str:
    """Return a keyed digest by which an equal text is found, and nothing else is learnt."""
    return _digest(keys()[0], text, context=context)


@hiding
def blind_indexes(text: str, *, context: str) -> list[str]:
    """Return the digests of a text under all keys: rows written before a rotation are found too."""
    return [_digest(key, text, context=context) for key in keys()]


@hiding
def mac(text: str, *, context: str) -> str:
    """Return ``{key id}:{HMAC-SHA256}``, by which it is seen that one of us wrote the text."""
    key = keys()[0]
    return f"{key.id}:{_mac(key, text, context=context)}"


@hiding
def verify_mac(text: str, mac: str, *, context: str) -> bool | None:
    """Say whether a MAC is that of the text; None where its key is not in the key ring."""
    id, _, code = mac.partition(":")
    if not re.fullmatch(rf"[0-9a-f]{{{_ID_DIGITS}}}", id):
        return False
    known = [key for key in keys() if key.id == id]
    if not known:
        return None
    return hmac.compare_digest(_mac(known[0], text, context=context).encode(), code.encode())


def _mac(key: Key, text: str, *, context: str) -> str:
    content = _bound_to(context) + b"\0" + text.encode()
    return hmac.digest(key.mac_key, content, hashlib.sha256).hex()


def _digest(key: Key, text: str, *, context: str) -> str:
    content = _bound_to(context) + b"\0" + text.encode()
    return hmac.digest(key.index_key, content, hashlib.sha256).hex()[:_INDEX_DIGITS]


def _bound_to(context: str) -> bytes:
    return b"django_webhooks\0" + context.encode()


@process_state.memo
@functools.lru_cache(maxsize=8)
def _ring(texts: tuple[str, ...]) -> tuple[Key, ...]:
    return tuple(_key(key_bytes(text)) for text in texts)


@process_state.memo
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
        mac_key=_derive(secret, "seal"),
    )


def _derive(secret: bytes, purpose: str) -> bytes:
    info = f"django_webhooks {purpose}".encode()
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=info).derive(secret)


_STANDARD = str.maketrans("-_", "+/")

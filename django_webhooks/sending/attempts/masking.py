"""Answers of receivers without our secrets: the one masker, for attempts and probes.

Pages of errors quote the path that was asked for, redirects lead to it, echoes return headers, and
some of it comes back in another form: percent-encoded, escaped for HTML or JSON, in base64 or
hexadecimal digits, in other letters' case. All of these are masked, before anything is cut.
"""

from __future__ import annotations

import base64
import binascii
import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

from ... import process_state
from ...conf import settings
from ...fields import Undecryptable
from ...models import Endpoint, Subscription
from ...policies.cleaning import clean, clean_line
from ..http import Answer, NoAnswer

MASK = "…"
#: Characters from which a part of a URL, or a credential, is taken for a secret.
_LONG, _CREDENTIAL = 12, 8
#: Characters from which the beginning of a secret, at the end of what was cut, is taken for one.
_HALF = 5
#: Characters of a detail and of the value of a header, and headers, that are kept.
MAX_TEXT, MAX_HEADERS, MAX_NAME = 500, 50, 100
_NAMED = {"&": "amp", "<": "lt", ">": "gt", '"': "quot", "'": "apos"}
_RUN = re.compile(r"[0-9A-Za-z]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """An answer of a receiver, fit to be stored: without secrets, clean, and bounded."""

    detail: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = ""


class Masker:
    """Masks the secrets of one endpoint; shows none of them itself."""

    __slots__ = ("_forms", "_secrets")

    def __init__(self, secrets: Iterable[str]) -> None:
        self._secrets = ordered = sorted(set(secrets), key=lambda one: (-len(one), one))
        #: For each secret the run of characters that a form of it has, and its pattern.
        self._forms = [one for secret in ordered for one in _forms(secret)]

    def __repr__(self) -> str:
        return f"<Masker of {len(self._forms)} forms>"

    def mask(self, text: str) -> str:
        """Return the text without the secrets, in whatever form it has them."""
        return _mask(text, self._found_in(text))

    def said(self, response: Answer | NoAnswer) -> Said:
        """Return what is kept of an answer, or of why there was none."""
        if isinstance(response, NoAnswer):
            return Said(detail=clean_line(self.mask(response.detail), limit=MAX_TEXT))
        whole = response.body.decode("utf-8", "surrogateescape")
        headers = list(response.headers.items())[:MAX_HEADERS]
        # Most answers repeat nothing, which one look at all of it tells.
        found = self._found_in("\n".join([whole, *(text for pair in headers for text in pair)]))

        def line(text: str, limit: int = MAX_TEXT) -> str:
            return clean_line(_mask(text, found), limit=limit)

        detail = ""
        if 300 <= response.status < 400 and response.status != 304:
            location = response.headers.get("location", "")
            detail = line(f"Redirects are not followed; it names {location}")
        body = _mask(whole, found)
        if not response.is_whole:
            body = self._without_half(body)
        excerpt = body.encode("utf-8", "surrogateescape")
        excerpt = excerpt[: settings.WEBHOOKS_RESPONSE_EXCERPT_BYTES]
        return Said(
            detail=detail,
            headers={line(name, MAX_NAME): line(value) for name, value in headers},
            body=clean(excerpt.decode("utf-8", "replace")),
        )

    def _without_half(self, text: str) -> str:
        """Return a text that was cut while it came without the beginning of a secret at its end."""
        lowered = text.lower()
        for secret in map(str.lower, self._secrets):
            for length in range(min(len(secret), len(text)), _HALF - 1, -1):
                if lowered.endswith(secret[:length]):
                    return text[: len(text) - length] + MASK
        return text

    def _found_in(self, text: str) -> list[str]:
        """Return the patterns of what the text may have of the secrets."""
        lowered = text.lower()
        return [pattern for run, pattern in self._forms if run in lowered]


def _mask(text: str, patterns: Iterable[str]) -> str:
    for pattern in patterns:
        text = _pattern(pattern).sub(MASK, text)
    return text


@process_state.memo
@functools.lru_cache(maxsize=256)
def _masker(secrets: frozenset[str]) -> Masker:
    return Masker(secrets)


def masker(endpoint: Endpoint, subscription: Subscription | None = None) -> Masker:
    """Return the masker of an endpoint, and of the signing keys that its subscription has loaded.

    Never raises, whatever an old row holds.
    """
    found = (*_of_urls(endpoint), *_of_credentials(endpoint), *_of_keys(subscription))
    return _masker(frozenset(found))


def _of_urls(endpoint: Endpoint) -> Iterator[str]:
    for url in (endpoint.url, endpoint.health_url):
        # An old row may have a URL that no parser takes: urlsplit() would raise.
        before, _, rest = str(url).partition("://")
        place, slash, target = rest.partition("/")
        user = place.rpartition("@")[0]
        path, _, query = f"{slash}{target}".partition("?")
        pairs = query.split("&")
        values = [pair.partition("=")[2] for pair in pairs]
        texts = (user, slash + target, path, query, *path.split("/"), *pairs, *values)
        for text in (*texts, *([before] if not rest else [])):
            yield from (one for one in (text, unquote(text)) if len(one) >= _LONG)


def _of_credentials(endpoint: Endpoint) -> Iterator[str]:
    headers = endpoint.headers if isinstance(endpoint.headers, Mapping) else {}
    for value in map(str, (endpoint.authorization, *headers.values())):
        for part in (value, value.partition(" ")[2], *value.split()):
            for one in (part, *_decoded(part)):
                if len(one) >= _CREDENTIAL:
                    yield one


def _of_keys(subscription: Subscription | None) -> Iterator[str]:
    # Loaded keys alone: nothing is asked of the database for it.
    loaded = getattr(subscription, "_prefetched_objects_cache", {}).get("signing_keys", ())
    for key in loaded:
        if key.secret and not isinstance(key.secret, Undecryptable):
            yield from (str(key.secret), str(key.secret).partition("_")[2])


def _decoded(value: str) -> list[str]:
    """Return what a value of HTTP's Basic scheme says: user and password (RFC 7617)."""
    try:
        text = base64.b64decode(value, validate=True).decode()
    except (binascii.Error, ValueError):
        return []
    return [text, text.partition(":")[2]] if ":" in text else []


def _forms(secret: str) -> Iterator[tuple[str, str]]:
    """Yield the forms of a secret: a run of characters that each has, and its pattern."""
    data = secret.encode("utf-8", "surrogatepass")
    yield _run(secret), "".join(map(_character, secret))
    yield data.hex(), re.escape(data.hex())
    # Wherever in an encoded text the secret begins, these characters are in it.
    for offset in range(3):
        encoded = base64.b64encode(bytes(offset) + data).decode("ascii").rstrip("=")
        whole = encoded[(0, 2, 3)[offset] :]
        if (offset + len(data)) % 3:
            whole = whole[:-1]
        yield _run(whole), "".join(map(_character64, whole))


def _run(text: str) -> str:
    return max(_RUN.findall(text), key=len, default="").lower()


@process_state.memo
@functools.lru_cache(maxsize=1024)
def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text, re.IGNORECASE)


@process_state.memo
@functools.lru_cache(maxsize=1024)
def _character(one: str) -> str:
    """Return a pattern of the ways in which texts write a character of a secret."""
    if one.isascii() and one.isalnum():
        return one
    number, encoded = ord(one), one.encode("utf-8", "surrogatepass")
    ways = [
        re.escape(one),
        rf"\\{re.escape(one)}",
        f"&#0*{number};",
        f"&#x0*{number:x};",
        rf"\\u{number:04x}",
        rf"\\x{number:02x}",
        "".join(f"%(?:25)?{byte:02x}" for byte in encoded),
    ]
    if one in _NAMED:
        ways.append(f"&{_NAMED[one]};")
    if one == " ":
        ways.append(r"\+")
    if not one.isascii():
        # UTF-8 that was read as Latin-1, and the reverse.
        ways.append(re.escape(encoded.decode("latin-1")))
        if number < 256:
            ways += [re.escape(chr(0xDC00 + number)), f"%(?:25)?{number:02x}"]
    return f"(?:{'|'.join(ways)})"


def _character64(one: str) -> str:
    """Return a pattern of a character of base64, in both alphabets of RFC 4648."""
    forms = {"+": "+-", "/": "/_"}.get(one)
    return one if forms is None else f"(?:[{re.escape(forms)}]|{_character(one)})"

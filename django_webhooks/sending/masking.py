"""What an answer repeats of our secrets, masked before it is stored.

Pages of errors quote the path that was asked for, redirects lead to it, and echoes return headers.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import unquote

from ..models import Endpoint

MASK = "…"
#: Characters from which a part of a URL, or a credential, is taken for a secret.
_LONG, _CREDENTIAL = 12, 8


def secrets_of(endpoint: Endpoint) -> list[str]:
    """Return what of an endpoint may be a secret, and may be repeated; the longest first.

    Never raises, whatever an old row holds.
    """
    found: set[str] = set()
    for url in (endpoint.url, endpoint.health_url):
        # What no parser takes may be in an old row: urlsplit() would raise.
        _, slash, target = url.partition("://")[2].partition("/")
        path, _, query = f"{slash}{target}".partition("?")
        pairs = query.split("&")
        values = [pair.partition("=")[2] for pair in pairs]
        for text in (slash + target, path, query, *path.split("/"), *pairs, *values):
            found |= {one for one in (text, unquote(text)) if len(one) >= _LONG}
    headers = endpoint.headers if isinstance(endpoint.headers, Mapping) else {}
    for value in map(str, (endpoint.authorization, *headers.values())):
        found |= {one for one in (value, *value.split()) if len(one) >= _CREDENTIAL}
    return sorted(found, key=len, reverse=True)


def mask(text: str, secrets: list[str]) -> str:
    """Return the text without the secrets."""
    for secret in secrets:
        text = text.replace(secret, MASK)
    return text

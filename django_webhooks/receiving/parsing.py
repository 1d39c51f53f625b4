"""Parsing: what the body of a message says, by its content type.

JSON by the types of the MIME Sniffing standard (``application/json``, ``text/json``, ``…+json``;
https://mimesniff.spec.whatwg.org/#json-mime-type), forms by the URL standard
(``application/x-www-form-urlencoded``; https://url.spec.whatwg.org/#concept-urlencoded-parser).
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any
from urllib.parse import unquote_to_bytes

from django.http import QueryDict

from ..exceptions import InvalidPayload

JSON, FORM = "application/json", "application/x-www-form-urlencoded"
#: Field of a form in which GitHub and Slack send JSON.
PAYLOAD = "payload"
#: Fields of a form at the most.
MAX_FIELDS = 1_000


def media_type(content_type: str) -> str:
    """Return a content type without its parameters, in lower case."""
    return content_type.partition(";")[0].strip().lower()


def is_json(kind: str) -> bool:
    """Say whether a media type, in lower case and without parameters, is one of JSON."""
    kind, _, suffix = kind.partition("/")
    return f"{kind}/{suffix}" in {JSON, "text/json"} or (bool(kind) and suffix.endswith("+json"))


def is_taken(kind: str, types: Collection[str]) -> bool:
    """Say whether a media type is one of those named; ``application/json`` stands for all of JSON.

    A request without a content type is taken for JSON.
    """
    if kind in types:
        return True
    return JSON in types and (not kind or is_json(kind))


def payload(body: bytes, content_type: str) -> Any:
    """Return what a body says: the values of JSON, or the fields of a form as a QueryDict.

    The field ``payload`` of a form holds JSON, and its values are returned instead. Raise
    InvalidPayload where the body is not what its content type says.
    """
    if media_type(content_type) != FORM:
        return _json(body, "The body")
    fields = form(body)
    if PAYLOAD not in fields:
        return fields
    values = fields.getlist(PAYLOAD)
    if len(values) > 1:
        raise InvalidPayload(f"The form has several fields {PAYLOAD!r}.")
    return _json(values[0].encode(), f"The field {PAYLOAD!r} of the form")


def form(body: bytes) -> QueryDict:
    """Return the fields of a form in UTF-8; raise InvalidPayload where it is malformed."""
    found = QueryDict(mutable=True)
    if body.count(b"&") >= MAX_FIELDS:
        raise InvalidPayload(f"The form has more than {MAX_FIELDS:,} fields.")
    try:
        for field in filter(None, body.decode("ascii").split("&")):
            name, _, value = field.partition("=")
            found.appendlist(_unquoted(name), _unquoted(value))
    except ValueError:
        raise InvalidPayload("The body is not a form in UTF-8.") from None
    return found


def _unquoted(text: str) -> str:
    return unquote_to_bytes(text.replace("+", " ")).decode("utf-8")


def _json(text: bytes, what: str) -> Any:
    try:
        # RFC 8259 section 8.1 lets a parser ignore a byte order mark. Numbers that JSON has no
        # word for are nothing that a sender means.
        return json.loads(text.decode("utf-8-sig"), parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise InvalidPayload(f"{what} is not JSON in UTF-8.") from None


def _refuse(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")

"""A message: what a verified request says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..exceptions import VerificationFailed
from ..models.owner import OwnerKey

NOBODY = OwnerKey()

#: Headers in which senders say what happened.
TYPE_HEADERS = ("x-github-event", "x-shopify-topic")


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A request whose signature holds.

    ``id`` is the same in each repeat of a message, as far as the sender tells; ``timestamp`` is in
    seconds, or None where the scheme signs none. ``headers`` have lower-case names, and are without
    credentials. ``owner`` is the tenant that the view named.
    """

    scheme: str
    id: str
    body: bytes
    timestamp: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    owner: OwnerKey = NOBODY

    @property
    def payload(self) -> Any:
        """The body as JSON. Raise VerificationFailed where it is none, or not UTF-8."""
        try:
            # Numbers that JSON has no word for are nothing that a sender means.
            return json.loads(self.body.decode("utf-8"), parse_constant=_refuse)
        except (ValueError, RecursionError):
            raise VerificationFailed("The body is not JSON in UTF-8.") from None

    @property
    def event_type(self) -> str:
        """What happened, as senders say it in a header or in ``type``; empty where none does."""
        for name in TYPE_HEADERS:
            if value := self.headers.get(name):
                return value
        try:
            found = self.payload
        except VerificationFailed:
            return ""
        kind = found.get("type") if isinstance(found, dict) else None
        return kind if isinstance(kind, str) else ""


def _refuse(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")

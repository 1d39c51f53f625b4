"""A message: what a verified request says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..exceptions import InvalidPayload
from ..models.owner import OwnerKey
from . import parsing

NOBODY = OwnerKey()

#: Headers that prove who somebody is: no message has them.
CREDENTIALS = frozenset({"authorization", "proxy-authorization", "cookie"})
#: Headers in which senders say what happened.
TYPE_HEADERS = ("x-github-event", "x-shopify-topic", "ce-type")


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
    def content_type(self) -> str:
        """The content type of the body, in lower case and without parameters."""
        return parsing.media_type(self.headers.get("content-type", ""))

    @property
    def is_json(self) -> bool:
        """Whether the sender says that the body is JSON, or says nothing."""
        return not self.content_type or parsing.is_json(self.content_type)

    @property
    def payload(self) -> Any:
        """The parsed body: the values of JSON, or the fields of a form as a QueryDict.

        Of a form with a field ``payload``, as GitHub and Slack send it, the JSON in that field.
        Raise InvalidPayload, which is answered with 400, where the body is neither.
        """
        return parsing.payload(self.body, self.content_type)

    @property
    def event_type(self) -> str:
        """The event type that a header or ``type`` of the body names; empty where none does."""
        for name in TYPE_HEADERS:
            if value := self.headers.get(name):
                return value
        try:
            found = self.payload
        except InvalidPayload:
            return ""
        kind = found.get("type") if isinstance(found, dict) else None
        return kind if isinstance(kind, str) else ""

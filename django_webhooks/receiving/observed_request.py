"""An arrival: one request as a listener saw it, and what it answered."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from ..exceptions import InvalidPayload
from .message import Message

#: Ids that are remembered.
MAX_IDS = 100_000
#: Where senders say which message it is, without a look into the body.
ID_HEADERS = ("webhook-id", "svix-id", "x-github-delivery", "x-shopify-webhook-id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A request that came. Unless it ``is_verified``, all of it is the word of a stranger.

    ``times`` is how often its message came, this time included; a repeat was accepted before.
    """

    method: str
    path: str
    body: bytes = field(default=b"", repr=False)
    #: The headers but those that hold a credential, in lower case.
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    message_id: str = ""
    times: int = 1
    is_repeat: bool = False
    #: Why it was refused; empty where it is verified.
    refusal: str = ""
    #: What it was answered: a status, or the failure that was simulated.
    answer: str = ""
    at: float = field(default_factory=time.time)

    @property
    def is_verified(self) -> bool:
        """Whether its signature held."""
        return not self.refusal

    @property
    def message(self) -> Message:
        """Its message, verified or not."""
        return Message(scheme="", id="", body=self.body, headers=self.headers)

    @property
    def payload(self) -> Any:
        """The parsed body, as a message has it; None where it is neither JSON nor a form."""
        try:
            return self.message.payload
        except InvalidPayload:
            return None

    @property
    def event_type(self) -> str:
        """The event type, as far as it is named."""
        return self.message.event_type


class Memory:
    """Which messages came, how often, and whether one was accepted; of the last ones only."""

    def __init__(self) -> None:
        self._seen: OrderedDict[str, tuple[int, bool]] = OrderedDict()
        self._lock = Lock()

    def note(self, message_id: str, *, is_accepted: bool) -> tuple[int, bool]:
        """Note a message; return how often it came, and whether it was accepted before."""
        with self._lock:
            times, was_accepted = self._seen.pop(message_id, (0, False))
            self._seen[message_id] = (times + 1, was_accepted or is_accepted)
            if len(self._seen) > MAX_IDS:
                self._seen.popitem(last=False)
            return times + 1, was_accepted


def claimed_id(headers: Mapping[str, str]) -> str:
    """Return the id that a request claims, verified or not."""
    return next((headers[name] for name in ID_HEADERS if headers.get(name)), "")

"""The receiver of the demo: a listener like that of webhooks_listen, and an account of its own."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from django_webhooks.receiving import StandardWebhooks
from django_webhooks.receiving.listener import Arrival, Listener, Plan, parse

#: How the receiver may fail, as ``webhooks_listen --fail`` has it, and what is told of it.
MODES = {
    "503": ("503", "503"),
    "reset": ("reset", "connection reset"),
    "busy": ("429:1", "429 asks for 1 s"),
    "refuse": ("refuse", "422 never again"),
}


@dataclass
class Account:
    """What arrived."""

    #: Bodies by message id, of requests that were verified and accepted.
    accepted: dict[str, dict[str, Any]] = field(default_factory=dict)
    #: How often each message id was accepted.
    times: Counter[str] = field(default_factory=Counter)
    #: Requests answered, by answer.
    answers: Counter[str] = field(default_factory=Counter)
    #: Requests whose signature did not hold.
    forged: int = 0


class Receiver:
    """A receiver on loopback."""

    def __init__(self, *, secret: str, tell: Callable[[str], None], name: str = "") -> None:
        self.secret, self.tell, self.name = secret, tell, name
        self.account = Account()
        self._listener = Listener(scheme=StandardWebhooks(), secrets=[secret], told=self._note)
        self.start()
        self.url = f"{self._listener.url}webhooks"

    def fail(self, mode: str) -> None:
        """Fail from now on, in one of the MODES."""
        self._listener.plan = Plan([parse(MODES[mode][0])])

    def recover(self) -> None:
        """Fail no more."""
        self._listener.plan = Plan()

    def start(self) -> None:
        """Listen, on the same port as before."""
        self._listener.start()

    def kill(self) -> None:
        """Listen no more, and cut all connections."""
        self._listener.stop(patience=0)

    def close(self) -> None:
        """Stop listening."""
        self._listener.stop()

    def _note(self, arrival: Arrival) -> None:
        headers = arrival.headers
        why = arrival.refusal
        self.account.answers[arrival.answer] += 1
        if not arrival.is_verified:
            self.account.forged += 1
        elif arrival.answer == "204":
            self.account.accepted[arrival.message_id] = arrival.payload
            self.account.times[arrival.message_id] += 1
            why = headers.get("webhook-retry-reason", "")
            why = f"after {why}" if why else ""
        words = dict(MODES.values())
        mark = "✓" if arrival.answer == "204" else "✗"
        self.tell(
            f"    {self.name}{arrival.event_type:14} attempt {headers.get('webhook-attempt')}  "
            f"{mark} {words.get(arrival.answer, arrival.answer)} {why}".rstrip()
        )

    def wait_for(self, condition: Callable[[Account], bool], *, seconds: float) -> bool:
        """Wait until the account meets the condition; say whether it did."""
        ends = time.monotonic() + seconds
        while not condition(self.account):
            if time.monotonic() > ends:
                return False
            time.sleep(0.05)
        return True

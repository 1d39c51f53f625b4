"""Failures that a listener simulates, and which requests meet one."""

from __future__ import annotations

import random
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One way to fail: a status with headers, no answer at all, or a connection that is cut."""

    name: str
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)


#: Failures that have a name.
TIMEOUT, RESET = Failure(name="timeout"), Failure(name="reset")
NAMED = {
    "timeout": TIMEOUT,
    "reset": RESET,
    "redirect": Failure(name="redirect", status=302, headers={"Location": "/elsewhere"}),
    "refuse": Failure(name="refuse", status=422, headers={"webhook-no-retry": "1"}),
}


def parse(text: str) -> Failure:
    """Return the failure of a text: a name, a status, or a status and what Retry-After says.

    Raise ValueError for anything else.
    """
    if text in NAMED:
        return NAMED[text]
    status, colon, wait = text.partition(":")
    is_number = status.isascii() and status.isdigit() and 300 <= int(status[:4]) <= 599
    if not is_number or (colon and not (wait.isascii() and wait.isprintable() and wait)):
        raise ValueError(
            f"A failure is {', '.join(NAMED)}, a status from 300 to 599, or 429:30 for one with "
            f"Retry-After, not {text!r}."
        )
    return Failure(name=text, status=int(status), headers={"Retry-After": wait} if colon else {})


class Plan:
    """Which requests fail, and how: all of them, the first ones, or a share of them.

    Several failures take turns.
    """

    def __init__(
        self,
        failures: Sequence[Failure] = (),
        *,
        first: int | None = None,
        rate: float | None = None,
        seed: int | None = None,
    ) -> None:
        if first is not None and rate is not None:
            raise ValueError("Fail the first requests or a share of them, not both.")
        if rate is not None and not 0 <= rate <= 1:
            raise ValueError("A share is a number from 0 to 1.")
        self.failures, self.first, self.rate = failures, first, rate
        # Not for secrets: the same seed makes the same failures.
        self._random = random.Random(seed)  # nosec B311
        self._asked = self._failed = 0
        self._lock = threading.Lock()

    def next(self) -> Failure | None:
        """Return how the next request fails, or None where it does not."""
        if not self.failures:
            return None
        with self._lock:
            self._asked += 1
            if self.first is not None and self._asked > self.first:
                return None
            if self.rate is not None and self._random.random() >= self.rate:
                return None
            self._failed += 1
            return self.failures[(self._failed - 1) % len(self.failures)]

"""What was committed, what arrived, what waits: compared from outside."""

from __future__ import annotations

import contextlib
import json
import time
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import psycopg
import standardwebhooks

from tests.acceptance.harness import SIGNING_SECRET, Harness
from tests.receivers import Receiver, Request

#: Seconds between two sweeps of the site.
SWEEP = 1.0
#: Requests under way in one process of a worker, as the campaign sets it.
UNDER_WAY = 8
#: What one process can repeat when it dies: what is under way, and what is just being recorded.
IN_FLIGHT = 2 * UNDER_WAY
#: Seconds for a busy machine: to start what was killed, and to send what has waited.
MARGIN = 20.0

DELIVERIES = """
    SELECT d.status, d.reason, d.attempts_made, e.body
    FROM django_webhooks_delivery d JOIN django_webhooks_event e ON e.id = d.event_id
"""


def key_of(body: bytes) -> int:
    """Return the thing that a body tells of."""
    key: int = json.loads(body)["data"]["id"]
    return key


@dataclass(frozen=True, kw_only=True)
class Balance:
    """One account: keys of things, and how many requests were repeats."""

    committed: frozenset[int]
    arrived: frozenset[int]
    #: Over without having arrived, and to be seen as such.
    told: frozenset[int]
    waiting: int
    repeats: int

    @property
    def lost(self) -> frozenset[int]:
        """Committed, over or without a delivery, and neither arrived nor told."""
        return self.committed - self.arrived - self.told

    def __str__(self) -> str:
        return (
            f"{len(self.committed)} committed, {len(self.arrived)} arrived, {len(self.told)} told, "
            f"{len(self.lost)} not there, {self.waiting} wait, {self.repeats} repeats"
        )


@dataclass
class Account:
    """Compares the site's own rows with what the receivers took; a fault ends by :meth:`clear`."""

    harness: Harness
    receivers: list[Receiver]
    name: str = ""
    secrets: Sequence[str] = (SIGNING_SECRET,)
    #: Whether each path is that of another subscription, which gets every event itself.
    by_path: bool = False
    lines: list[str] = field(default_factory=list)
    cleared_at: float = 0.0

    def clear(self) -> None:
        """The fault is over; the time to settle begins."""
        self.cleared_at = time.monotonic()

    @property
    def requests(self) -> list[Request]:
        """All that came, at any receiver."""
        return [one for receiver in self.receivers for one in list(receiver.requests)]

    def balance(self, *, told: Collection[str] = ()) -> Balance:
        """Return how it stands; ``told`` are the statuses in which a delivery may end unsent."""
        committed = frozenset(row[0] for row in self.harness.query("SELECT id FROM site_thing"))
        rows = self.harness.query(DELIVERIES)
        taken = [one for one in self.requests if one.answer.takes]
        counts = Counter(
            (one.headers["webhook-id"], one.path if self.by_path else "") for one in taken
        )
        return Balance(
            committed=committed,
            arrived=frozenset(key_of(one.body) for one in taken),
            told=frozenset(key_of(bytes(row[3])) for row in rows if row[0] in told),
            waiting=sum(row[0] == "waiting" for row in rows),
            repeats=sum(counts.values()) - len(counts),
        )

    def settle(
        self, *, repeats: int = 0, told: Collection[str] = (), extra: float = 0.0
    ) -> Balance:
        """Wait two sweeps and a lease (and ``extra``) at most, and check that nothing is amiss."""
        began = self.cleared_at or time.monotonic()
        lease = self.harness.settings.get("WEBHOOKS_LEASE_SECONDS", 5.0)
        promised = 2 * SWEEP + lease + extra
        while True:
            # The database may still be starting.
            with contextlib.suppress(psycopg.OperationalError):
                found = self.balance(told=told)
                if not found.lost and not found.waiting:
                    break
            if time.monotonic() > began + promised + MARGIN:
                raise AssertionError(f"{promised:.0f} + {MARGIN:.0f} s after the fault: {found}")
            time.sleep(0.1)
        settled = time.monotonic() - began
        # What would be repeated is, before long.
        time.sleep(SWEEP)
        found = self.balance(told=told)
        self.lines.append(
            f"{self.name}: {len(found.committed)} committed, lost {len(found.lost)}, stuck "
            f"{found.waiting}, repeats {found.repeats} of {repeats} allowed, {settled:.1f} s"
        )
        assert found.arrived <= found.committed, "something arrived that was not committed"
        assert found.repeats <= repeats, str(found)
        statuses = {row[0] for row in self.harness.query(DELIVERIES)}
        assert statuses <= {"succeeded", *told}
        self.verify()
        return found

    def verify(self) -> None:
        """Check that all requests of an id have the same bytes, and are signed."""
        bodies: dict[str, bytes] = {}
        keys: dict[int, str] = {}
        for one in self.requests:
            message = one.headers["webhook-id"]
            assert bodies.setdefault(message, one.body) == one.body, f"other bytes: {message}"
            assert keys.setdefault(key_of(one.body), message) == message, f"other id: {message}"
            assert any(_is_signed(one, secret) for secret in self.secrets), f"signature: {message}"


def _is_signed(request: Request, secret: str) -> bool:
    try:
        standardwebhooks.Webhook(secret).verify(request.body, dict(request.headers))
    except standardwebhooks.WebhookVerificationError:
        return False
    return True

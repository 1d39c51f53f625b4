"""The story of the demo: what happens, in order, and the account at the end."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import datetime
from urllib.request import Request, urlopen

from django.db.models import Count

from django_webhooks.models import Attempt, Delivery, Endpoint, Event, Subscription, Switch
from django_webhooks.replays import replay

from .processes import DemoFailed, Processes
from .receiver import Receiver

#: Seconds that what was sent may take to arrive, retries included.
PATIENCE = 45


class Scenario:
    """Tell and do."""

    def __init__(
        self,
        *,
        site: str,
        receiver: Receiver,
        backup: Receiver,
        processes: Processes,
        tell: Callable[[str], None],
    ) -> None:
        self.site, self.processes, self.tell = site, processes, tell
        self.receiver, self.backup = receiver, backup
        self.orders: list[int] = []
        self.expected = 0

    def run(self) -> None:
        """Do it all; raise DemoFailed unless every event arrived with a valid signature."""
        self.subscribe()
        self.tell("\n1. Orders are created, changed and deleted; webhooks go out at once.")
        self.create(3)
        self.change("paid")
        self.delete()
        self.wait()
        for mode, words in [
            ("503", "is down and answers 503"),
            ("reset", "resets every connection"),
            ("busy", "is busy and asks for a second, by Retry-After"),
        ]:
            self.fail_for_a_while(mode, words)
        self.give_up_and_replay()
        self.fail_over()
        self.account()

    def subscribe(self) -> None:
        """Subscribe the receiver to all order events."""
        subscription = Subscription.objects.create(
            name="Demo receiver",
            event_types=["order.*"],
            signing_secret=self.receiver.secret,
            # The retries of the first scenes are to be seen: no breaker yet.
            health_fall=100,
            health_window_attempts=1000,
        )
        Endpoint.objects.create(subscription=subscription, url=self.receiver.url)
        self.tell("   order.* is subscribed to by a receiver that verifies signatures.")

    def create(self, count: int) -> None:
        """Create orders on the site."""
        for _ in range(count):
            number = f"A-{time.time_ns() // 1000 % 10**9}"
            self.orders.append(self.ask("POST", "orders/", number=number, total="42.00")["id"])
            self.expected += 1

    def change(self, status: str) -> None:
        """Change every order on the site."""
        for pk in self.orders:
            self.ask("PATCH", f"orders/{pk}/", status=status)
            self.expected += 1

    def delete(self) -> None:
        """Delete one order on the site."""
        self.ask("DELETE", f"orders/{self.orders.pop()}/")
        self.expected += 1

    def fail_for_a_while(self, mode: str, words: str) -> None:
        """Let the receiver fail, then recover; the retries arrive."""
        number = {"503": 2, "reset": 3, "busy": 4}[mode]
        self.tell(f"\n{number}. The receiver {words}; deliveries are retried with backoff.")
        failed = sum(self.receiver.account.answers.values()) + 4
        self.receiver.fail(mode)
        self.create(2)
        self.receiver.wait_for(lambda one: sum(one.answers.values()) >= failed, seconds=PATIENCE)
        self.tell("   The receiver recovers.")
        self.receiver.recover()
        self.wait()

    def give_up_and_replay(self) -> None:
        """Let the receiver refuse an event for good, then replay it."""
        self.tell("\n5. The receiver refuses an event for good; it is given up, and replayed.")
        self.receiver.fail("refuse")
        self.create(1)
        self.until(lambda: Delivery.objects.given_up().exists(), "nothing was given up")
        lost = Delivery.objects.given_up().get()
        self.tell(f"   {lost.explain()}")
        self.receiver.recover()
        replay([lost])
        self.tell("   Staff replay it; the sweep finds it.")
        self.wait()

    def fail_over(self) -> None:
        """Kill the primary under traffic; it moves to a backup, and back when the primary is."""
        self.tell("\n6. A backup endpoint is added, and the primary is killed under traffic.")
        subscription = Subscription.objects.get()
        subscription.health_fall, subscription.health_window_attempts = 3, 20
        subscription.save()
        Endpoint.objects.create(subscription=subscription, url=self.backup.url, position=1)
        self.create(2)
        self.wait()
        self.receiver.kill()
        killed, at_primary = time.monotonic(), len(self.receiver.account.accepted)
        self.tell("    The primary is dead.")
        self.keep_creating(until=lambda: Switch.objects.filter(cause="failover").exists())
        moved = time.monotonic() - killed
        self.tell(f"    Traffic has moved to the backup, {moved:.1f} s after.")
        self.create(3)
        self.until(lambda: not _is_anything_waiting(), "deliveries still wait")
        at_backup = len(self.backup.account.accepted)
        self.receiver.start()
        revived = time.monotonic()
        self.tell("    The primary is back.")
        self.keep_creating(until=lambda: Switch.objects.filter(cause="failback").exists())
        returned = time.monotonic() - revived
        self.tell(f"    Traffic has moved back, {returned:.1f} s after.")
        self.create(2)
        self.wait()
        failed = Attempt.objects.filter(endpoint_host=self.receiver.url.split("/")[2])
        failed = failed.filter(reason__in=["connection", "timeout"], started_at__gte=self._added())
        back = len(self.receiver.account.accepted) - at_primary
        self.tell(
            f"   While the primary was dead {at_backup} events arrived at the backup; "
            f"{failed.count()} attempts failed, none was lost; {back} arrived at the primary since."
        )

    def _added(self) -> datetime:
        return Endpoint.objects.get(position=1).created_at

    def keep_creating(self, *, until: Callable[[], bool]) -> None:
        """Create orders, a few a second, until something has happened."""
        ends = time.monotonic() + PATIENCE
        while not until():
            self.processes.check()
            if time.monotonic() > ends:
                raise DemoFailed("the traffic did not move")
            self.create(1)
            time.sleep(0.25)

    @property
    def accepted(self) -> dict[str, dict[str, object]]:
        """What arrived at either receiver, by message id."""
        return {**self.backup.account.accepted, **self.receiver.account.accepted}

    def wait(self) -> None:
        """Wait until all that was done so far has arrived, and is recorded so."""
        self.until(lambda: len(self.accepted) >= self.expected, "events are missing")
        self.until(lambda: not _is_anything_waiting(), "deliveries still wait")

    def until(self, condition: Callable[[], bool], trouble: str) -> None:
        """Wait for a condition; raise DemoFailed with the trouble otherwise."""
        ends = time.monotonic() + PATIENCE
        while not condition():
            self.processes.check()
            if time.monotonic() > ends:
                have = len(self.accepted)
                raise DemoFailed(f"{trouble}: {have} of {self.expected} arrived.")
            time.sleep(0.05)

    def account(self) -> None:
        """Tell what became of everything; raise DemoFailed where it does not add up."""
        accounts = [self.receiver.account, self.backup.account]
        times = accounts[0].times + accounts[1].times
        forged = sum(one.forged for one in accounts)
        outcomes = Attempt.objects.values_list("outcome").annotate(Count("pk")).order_by("outcome")
        rows = [
            ("events recorded", Event.objects.count()),
            ("events that arrived, signature valid", len(self.accepted)),
            ("events that arrived more than once", sum(n > 1 for n in times.values())),
            ("signatures that did not hold", forged),
            *((f"attempts: {outcome}", count) for outcome, count in outcomes),
            ("switches of the active endpoint", Switch.objects.count()),
            ("deliveries given up, then replayed", Delivery.objects.given_up().count()),
            ("deliveries that still wait", Delivery.objects.waiting().count()),
        ]
        width = max(len(name) for name, _ in rows)
        self.tell("\n   " + "─" * (width + 8))
        for name, number in rows:
            self.tell(f"   {name:{width}} {number:>6}")
        self.tell("   " + "─" * (width + 8))
        events = {event.message_id: event.payload for event in Event.objects.all()}
        if events != self.accepted or forged:
            raise DemoFailed("What arrived is not what was recorded.")

    def ask(self, method: str, path: str, **data: str) -> dict[str, int]:
        """Send a request to the site."""
        body = json.dumps(data).encode() if data else None
        with urlopen(Request(self.site + path, data=body, method=method), timeout=30) as answer:
            text = answer.read()
        found: dict[str, int] = json.loads(text) if text else {}
        return found


def _is_anything_waiting() -> bool:
    """Say whether a worker has deliveries to make, or to send."""
    return Event.objects.waiting().exists() or Delivery.objects.waiting().exists()

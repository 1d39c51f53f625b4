"""Failover with real processes: the primary breaks under steady traffic, and comes back.

Measured from outside: when each committed event first arrived at one of the two receivers.
"""

from __future__ import annotations

import json
import os
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests import certificates
from tests.receivers import Answer, Receiver
from tests.timing import stalls

from .conftest import MARIADB, REDIS
from .harness import Harness, Proxy, until
from .traffic import first_arrivals, percentile, traffic

pytestmark = [pytest.mark.acceptance, pytest.mark.outage, pytest.mark.timeout(600)]

TIMEOUT, HOLD, INTERVAL, FALL = 4.0, 4.0, 1.0, 3
#: Seconds for which one process may stand still, unseen by the others.
STILL = 3.0
PROCESSES = 2
#: Requests to one endpoint that are under way at once, of all processes.
IN_FLIGHT = 8 * PROCESSES
SETTINGS = {
    "WEBHOOKS_TIMEOUT_SECONDS": TIMEOUT,
    # Who waited for a retry would be seen.
    "WEBHOOKS_RETRY_BASE_SECONDS": 30.0,
    "WEBHOOKS_RETRY_FACTOR": 6.0,
    "WEBHOOKS_HEALTH_HOLD_SECONDS": HOLD,
    "WEBHOOKS_PROBE_INTERVAL_SECONDS": 5.0,
    "WEBHOOKS_PROBE_INTERVAL_UNHEALTHY_SECONDS": INTERVAL,
}


@dataclass
class Primary:
    """A receiver behind a proxy, and how to reach and to break it."""

    receiver: Receiver
    proxy: Proxy
    url: str = ""
    names: Path | None = None
    tls: ssl.SSLContext | None = None
    certificates: dict[str, certificates.Certificate] = field(default_factory=dict)

    def kill(self) -> None:
        """Listen no more."""
        self.proxy.refuse()

    def revive(self) -> None:
        """Listen again."""
        self.proxy.accept()

    def hang(self) -> None:
        """Accept, and never answer."""
        self.proxy.swallows = True

    def wake(self) -> None:
        """Answer again."""
        self.proxy.swallows = False

    def answer(self, answer: Answer) -> None:
        """Answer so from now on."""
        self.receiver.answers = [answer]

    def present(self, name: str) -> None:
        """Present another certificate."""
        assert self.tls is not None
        made = self.certificates[name]
        self.tls.load_cert_chain(made.certificate, made.key)
        self.proxy.cut()

    def rename(self, *, is_known: bool) -> None:
        """Let the name be known, or not."""
        assert self.names is not None
        known = {"primary.webhooks.test": "127.0.0.1"} if is_known else {}
        self.names.write_text(json.dumps(known))
        self.proxy.cut()


@pytest.fixture
def receiver_pair() -> Iterator[tuple[Primary, Receiver]]:
    """A primary that can be broken, and a backup."""
    with _primary() as primary:
        backup = Receiver()
        yield primary, backup
        backup.close()


@contextmanager
def _primary(tls: ssl.SSLContext | None = None) -> Iterator[Primary]:
    receiver = Receiver(tls=tls)
    proxy = Proxy("127.0.0.1", receiver.port)
    scheme = "http" if tls is None else "https"
    yield Primary(receiver=receiver, proxy=proxy, url=f"{scheme}://127.0.0.1:{proxy.port}/hook")
    proxy.swallows = False
    proxy.refuse()
    receiver.close()


def start(harness: Harness, primary: Primary, backup: Receiver) -> None:
    """Start everything, and wait until the first event has arrived."""
    harness.settings = {**SETTINGS, **harness.settings}
    harness.subscribe_pair(primary.url, backup.url)
    harness.worker()
    harness.beat()
    harness.web()
    harness.ask("first")
    until(lambda: primary.receiver.requests, "the first event did not arrive")


def causes(harness: Harness) -> list[str]:
    return [cause for cause, _ in harness.switches()]


def an_outage(
    harness: Harness,
    primary: Primary,
    backup: Receiver,
    *,
    breaks: Callable[[], None],
    heals: Callable[[], None],
    seconds: float = 8.0,
    timeouts: int = 1,
) -> None:
    """Break the primary under traffic, heal it, and check what the users saw.

    An event waits for so many ``timeouts`` at the most until the backup has it.
    """
    start(harness, primary, backup)
    with traffic(harness) as events, stalls() as late:
        time.sleep(2)
        until(lambda: len(first_arrivals(primary.receiver)) > 5, "there is no traffic")
        breaks()
        time.sleep(seconds)
        until(lambda: causes(harness), "the traffic did not go to the backup")
        assert causes(harness) == ["failover"]
        broken = set(events.committed)
        until(
            lambda: broken <= set(first_arrivals(primary.receiver, backup)),
            "not everything arrived at the backup",
        )
        during = events.latencies(primary.receiver, backup)
        held = harness.candidates()[0]["hold_seconds"]
        heals()
        healed, healed_at = time.monotonic(), time.time()
        until(
            lambda: harness.candidates()[0]["state"] == "healthy",
            f"the traffic did not return: {harness.candidates()}",
            seconds=held * 2 + 30,
        )
        # A trial that was under way while it healed may have failed and doubled it.
        hold = harness.candidates()[0]["hold_seconds"]
        until(
            lambda: sum(at > healed for at in first_arrivals(primary.receiver).values()) > 5,
            "the traffic did not return",
        )
    account(harness, events, primary, backup)
    longest = timeouts * TIMEOUT + 2 + STILL + late.total
    assert percentile(during, 0.99) < longest, during[-20:]
    assert causes(harness) == ["failover", "failback"]
    returned_after = harness.switches()[-1][1] - healed_at
    assert hold in (held, 2 * held)
    # A second for the beat, whose ticks the probes wait for.
    longest = hold + 2 * INTERVAL + 2 + STILL + late.total
    assert returned_after < longest, (returned_after, hold)
    failed = [row for row in harness.attempts() if row[1] != "succeeded"]
    trials = sum(hold >= HOLD * 2**n for n in range(1, 9))
    # Each process fills the places of failures again until it hears of the fall.
    assert len(failed) <= PROCESSES * FALL + IN_FLIGHT + trials, failed
    print(
        f"\n{len(during)} events arrived during the outage: p50 {percentile(during, 0.5):.2f} s, "
        f"p99 {percentile(during, 0.99):.2f} s, slowest {during[-1]:.2f} s; {len(failed)} attempts "
        f"failed; back {returned_after:.1f} s after the primary was (hold {hold:.0f} s)"
    )


def account(harness: Harness, events, primary: Primary, backup: Receiver) -> None:
    """Check that everything arrived at one of the two."""
    wanted = set(events.committed)
    until(
        lambda: set(first_arrivals(primary.receiver, backup)) >= wanted,
        "not everything arrived",
    )
    until(lambda: set(harness.statuses()) <= {"succeeded"}, f"stuck: {harness.statuses()}")


@pytest.mark.stacks(REDIS)
def test_the_primary_is_killed(harness, receiver_pair):
    primary, backup = receiver_pair

    an_outage(harness, primary, backup, breaks=primary.kill, heals=primary.revive)


@pytest.mark.stacks(REDIS)
def test_the_primary_hangs(harness, receiver_pair):
    primary, backup = receiver_pair

    an_outage(
        harness,
        primary,
        backup,
        breaks=primary.hang,
        heals=primary.wake,
        seconds=2 * TIMEOUT + 4,
        # Of three that must fail, each of the two processes has one under way.
        timeouts=2,
    )


@pytest.mark.stacks(REDIS)
def test_the_primary_answers_500(harness, receiver_pair):
    primary, backup = receiver_pair

    an_outage(
        harness,
        primary,
        backup,
        breaks=lambda: primary.answer(Answer(500)),
        heals=lambda: primary.answer(Answer(204)),
    )


@pytest.mark.campaign
@pytest.mark.stacks(REDIS)
def test_the_certificate_of_the_primary_expires(harness, tmp_path):
    made = {}
    for name, days in (("good", (-1, 1)), ("expired", (-9, -1))):
        (tmp_path / name).mkdir()
        made[name] = certificates.make(tmp_path / name, names=["127.0.0.1"], days=days)
    authorities = tmp_path / "authorities.pem"
    authorities.write_bytes(b"".join(one.certificate.read_bytes() for one in made.values()))
    os.environ["ACCEPTANCE_AUTHORITIES"] = str(authorities)
    context = made["good"].server()
    backup = Receiver()
    try:
        with _primary(context) as primary:
            primary.tls, primary.certificates = context, made
            an_outage(
                harness,
                primary,
                backup,
                breaks=lambda: primary.present("expired"),
                heals=lambda: primary.present("good"),
            )
    finally:
        del os.environ["ACCEPTANCE_AUTHORITIES"]
        backup.close()
    assert {row[2] for row in harness.attempts() if row[1] != "succeeded"} <= {"tls", "connection"}


@pytest.mark.campaign
@pytest.mark.stacks(REDIS)
def test_the_name_of_the_primary_is_gone(harness, receiver_pair, tmp_path):
    primary, backup = receiver_pair
    primary.names = tmp_path / "names.json"
    primary.rename(is_known=True)
    primary.url = primary.url.replace("127.0.0.1", "primary.webhooks.test")

    an_outage(
        harness,
        primary,
        backup,
        breaks=lambda: primary.rename(is_known=False),
        heals=lambda: primary.rename(is_known=True),
    )

    assert {row[2] for row in harness.attempts() if row[1] != "succeeded"} <= {"dns", "connection"}


@pytest.mark.campaign
@pytest.mark.stacks(REDIS)
def test_a_primary_that_is_slow_but_well_keeps_the_traffic(harness, receiver_pair):
    primary, backup = receiver_pair
    start(harness, primary, backup)

    with traffic(harness) as events:
        primary.answer(Answer(204, delay=0.5))
        time.sleep(10)
    account(harness, events, primary, backup)

    assert causes(harness) == []
    assert backup.requests == []


@pytest.mark.campaign
@pytest.mark.stacks(REDIS)
def test_a_primary_that_flaps_switches_at_most_three_times_in_two_minutes(harness, receiver_pair):
    primary, backup = receiver_pair
    harness.settings = {
        "WEBHOOKS_HEALTH_HOLD_SECONDS": 30.0,
        "WEBHOOKS_PROBE_INTERVAL_UNHEALTHY_SECONDS": 10.0,
    }
    start(harness, primary, backup)

    with traffic(harness) as events:
        ends = time.monotonic() + 120
        while time.monotonic() < ends:
            primary.kill()
            time.sleep(5)
            primary.revive()
            time.sleep(5)
        switches = causes(harness)
    account(harness, events, primary, backup)

    print(f"\n{switches}, {harness.candidates()[0]}")
    assert switches[:1] == ["failover"]
    assert len(switches) <= 3


@pytest.mark.campaign
@pytest.mark.stacks(REDIS)
def test_both_are_down_for_a_minute_with_five_thousand_waiting(harness, receiver_pair):
    primary, backup = receiver_pair
    second = Proxy("127.0.0.1", backup.port)
    harness.settings = SETTINGS
    harness.subscribe_pair(primary.url, f"http://127.0.0.1:{second.port}/hook")
    primary.kill()
    second.refuse()
    harness.emit(5000)
    harness.worker()
    harness.beat()
    until(lambda: all(one["state"] != "healthy" for one in harness.candidates()), "still healthy")
    # What was leased when both had fallen is given back within a second or two.
    time.sleep(5)
    before = len(harness.attempts())
    began = time.monotonic()
    time.sleep(60)
    burnt = len(harness.attempts()) - before
    minutes = (time.monotonic() - began) / 60
    made = harness.python(
        "from django_webhooks.models import Delivery\nfrom django.db.models import Sum, Max\n"
        "print(json.dumps(Delivery.objects.aggregate(s=Sum('attempts_made'),"
        " m=Max('attempts_made'))))"
    )

    backup.answers = [Answer(204, delay=0.02)]
    second.accept()
    until(lambda: len(first_arrivals(backup)) >= 5000, "not everything arrived", seconds=120)
    until(lambda: harness.statuses() == {"succeeded": 5000}, f"stuck: {harness.statuses()}")
    second.refuse()

    # Probes by handshake fail, so that nothing is even tried.
    assert burnt <= 2 * minutes * 60 / HOLD
    assert made["m"] <= 2
    assert made["s"] == before + burnt
    assert causes(harness) == ["failover", "outage", "recovery"]
    order = [json.loads(request.body)["data"]["id"] for request in backup.requests]
    ranks = _ranks(order)
    late = max(index - place for place, index in enumerate(ranks))
    growth = _in_flight(backup)
    print(
        f"\n{before} attempts until both had fallen, then {burnt} in a minute; first requests "
        f"overlap {growth[:8]}, at most {max(growth)}; out of order by at most {late} of 5000"
    )
    assert growth[0] == 1
    assert all(at_once <= 2 ** (number + 1) for number, at_once in enumerate(growth[:6]))
    # Each process holds up to 150, and may stand still while the other goes on.
    assert late <= 1000
    assert max(ranks[:500]) < 1500
    assert order[0] == min(order)


def _ranks(order: list[int]) -> list[int]:
    place = {key: rank for rank, key in enumerate(sorted(set(order)))}
    return [place[key] for key in order]


def _in_flight(receiver: Receiver) -> list[int]:
    """Return how many requests were under way as each began."""
    spans = [(one.at, one.answered_at) for one in receiver.requests]
    return [sum(began <= at < ended for began, ended in spans[:2000]) for at, _ in spans[:2000]]


@pytest.mark.stacks(REDIS, MARIADB)
@pytest.mark.parametrize(
    "status",
    [
        500,
        pytest.param(404, marks=pytest.mark.campaign),
        pytest.param(410, marks=pytest.mark.campaign),
    ],
)
def test_four_workers_see_two_hundred_failures_and_switch_once(harness, receiver_pair, status):
    primary, backup = receiver_pair
    together = threading.Event()
    harness.settings = {
        **SETTINGS,
        "WEBHOOKS_TIMEOUT_SECONDS": 90.0,
        "WEBHOOKS_LEASE_SECONDS": 120.0,
        # No delivery tries the primary meanwhile.
        "WEBHOOKS_HEALTH_HOLD_SECONDS": 300.0,
        "django_webhooks.sending.claims.BATCH_SIZE": 50,
        # Slow receivers together hold three quarters of the places.
        "WEBHOOKS_MAX_IN_FLIGHT": 70,
        "WEBHOOKS_MAX_IN_FLIGHT_PER_ENDPOINT": 50,
        # As after many successes.
        "django_webhooks.sending.worker.executor.FIRST": 50,
    }
    harness.subscribe_pair(primary.url, backup.url)
    real = primary.receiver.handle

    def handle(request):
        if not together.wait(90):
            raise OSError("not all came")
        real(request)

    primary.receiver.handle = handle
    primary.receiver.answers = [Answer(status)]
    for _ in range(4):
        harness.worker(pool="solo", concurrency=1)
    # A quarter for each.
    harness.emit(200)
    harness.beat()
    until(lambda: primary.receiver.connections >= 200, "not all were under way")

    together.set()

    until(lambda: harness.statuses() == {"succeeded": 200}, f"stuck: {harness.statuses()}")
    assert len(primary.receiver.requests) == 200
    assert causes(harness)[:1] == ["failover"]
    assert causes(harness).count("failover") == 1
    assert [one["is_active"] for one in harness.candidates()].count(True) == 1
    assert len(set(backup.ids)) == 200

"""Whatever the primary answers, a living endpoint gets everything, with real processes.

200 events for a primary that takes none of them: half of them wait when the workers start, the
others are saved while they run. Measured on the rows: when the attempt of the third event that
failed was over, and when the subscription was switched.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import certificates
from tests.receivers import Answer, Receiver

from .conftest import RABBITMQ, REDIS
from .harness import Harness, Proxy, until
from .traffic import first_arrivals, traffic

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(600)]

COUNT = 200
SETTINGS = {
    "WEBHOOKS_HEALTH_HOLD_SECONDS": 10.0,
    "WEBHOOKS_PROBE_INTERVAL_SECONDS": 2.0,
    "WEBHOOKS_PROBE_INTERVAL_UNHEALTHY_SECONDS": 1.0,
}
PROCESSES, FALL, UNDER_WAY = 4, 3, 8
#: Seconds for which one process may stand still.
STILL = 4.0
#: Ways not to take an event, and the reason that their attempts have.
ANSWERS = {
    "404": (Answer(404), "http_404"),
    "401": (Answer(401), "http_401"),
    "403": (Answer(403), "http_403"),
    "302": (Answer(302, {"Location": "https://example.com/moved"}), "redirect"),
    "410": (Answer(410), "http_410"),
    "500": (Answer(500), "http_500"),
}
REASONS = {name: reason for name, (_, reason) in ANSWERS.items()} | {
    "silence": "timeout",
    "tls": "tls",
}


@contextmanager
def failing(how: str, folder: Path) -> Iterator[str]:
    """Run a primary that takes no event, and yield its URL."""
    tls = None
    if how == "tls":
        # Nobody knows its authority.
        tls = certificates.make(folder, names=["127.0.0.1"]).server()
    receiver = Receiver([ANSWERS[how][0]] if how in ANSWERS else (204,), tls=tls)
    proxy = Proxy("127.0.0.1", receiver.port)
    proxy.swallows = how == "silence"
    try:
        yield receiver.url.replace(str(receiver.port), str(proxy.port))
    finally:
        proxy.swallows = False
        proxy.refuse()
        receiver.close()


def everything_arrives(harness: Harness, how: str, folder: Path) -> None:
    """Send 200 events to a pair whose primary fails, and check what became of them."""
    backup = Receiver()
    harness.settings = dict(SETTINGS)
    if how == "silence":
        harness.settings["WEBHOOKS_TIMEOUT_SECONDS"] = 2.0
    try:
        with failing(how, folder) as url:
            harness.subscribe_pair(url, backup.url)
            harness.emit(COUNT // 2)
            harness.worker()
            harness.worker()
            harness.beat()
            harness.web()
            with traffic(harness, rate=40.0) as events:
                until(
                    lambda: len(events.committed) >= COUNT // 2, "the web process saves too slowly"
                )
            wanted = harness.committed()
            until(
                lambda: set(first_arrivals(backup)) >= wanted,
                f"not all arrived: {len(first_arrivals(backup))} of {len(wanted)}",
            )
            until(lambda: set(harness.statuses()) == {"succeeded"}, f"{harness.statuses()}")
            failed, switches = failures(harness), harness.switches()
    finally:
        backup.close()
    assert harness.statuses() == {"succeeded": len(wanted)}
    assert len(wanted) >= COUNT
    assert switches[0][0] == "failover"
    assert {reason for _, reason, _ in failed} == {REASONS[how]}
    # A 410 needs no second.
    needed = 1 if how == "410" else 3
    third_at = moments(failed)[needed - 1]
    took = switches[0][1] - third_at
    before = [at for _, _, at in failed if at < switches[0][1]]
    print(
        f"\n{how}: switched {took:+.2f} s after event {needed}, {len(failed)} attempts failed, "
        f"{len(before)} of them before"
    )
    assert took < 2 + STILL
    # Each process deals with what may be the last of them before it goes on.
    assert len(before) <= PROCESSES * FALL + UNDER_WAY


def failures(harness: Harness) -> list[tuple[str, str, float]]:
    """Return the attempts that failed: event, reason, and when they were over."""
    found = harness.python(
        "from django_webhooks.models import Attempt\n"
        "rows = Attempt.objects.exclude(outcome='succeeded').select_related('delivery')\n"
        "print(json.dumps([[str(one.delivery.event_id), one.reason,"
        " one.started_at.timestamp() + one.duration_ms / 1000] for one in rows]))"
    )
    return [(event, reason, at) for event, reason, at in found]


def moments(failed: list[tuple[str, str, float]]) -> list[float]:
    """Return when each event failed first, the earliest first."""
    first: dict[str, float] = {}
    for event, _, at in failed:
        first[event] = min(at, first.get(event, at))
    return sorted(first.values())


@pytest.mark.essential
@pytest.mark.stacks(REDIS)
@pytest.mark.parametrize("how", ["404"])
def test_a_living_endpoint_gets_everything(harness, tmp_path, how):
    everything_arrives(harness, how, tmp_path)


@pytest.mark.stacks(RABBITMQ)
@pytest.mark.parametrize("how", ["410"])
def test_a_living_endpoint_gets_everything_by_another_broker(harness, tmp_path, how):
    everything_arrives(harness, how, tmp_path)


@pytest.mark.campaign
@pytest.mark.outage
@pytest.mark.stacks(REDIS, RABBITMQ)
@pytest.mark.parametrize("how", list(REASONS))
def test_a_living_endpoint_gets_everything_whatever_the_other_answers(harness, tmp_path, how):
    everything_arrives(harness, how, tmp_path)


@pytest.mark.essential
@pytest.mark.stacks(REDIS)
def test_a_backup_that_is_gone_while_the_primary_is_down_loses_nothing(harness):
    """The primary is down for ten seconds; the backup says that it is gone."""
    primary, backup = Receiver(), Receiver([Answer(410)])
    proxy = Proxy("127.0.0.1", primary.port)
    harness.settings = {**SETTINGS, "WEBHOOKS_HEALTH_HOLD_SECONDS": 3.0}
    proxy.refuse()
    try:
        harness.subscribe_pair(f"http://127.0.0.1:{proxy.port}/hook", backup.url)
        harness.emit(COUNT)
        harness.worker()
        harness.worker()
        harness.beat()
        harness.web()
        began = time.monotonic()
        with traffic(harness, rate=20.0) as events:
            time.sleep(10)
            until(lambda: backup.requests, "nothing came to the backup")
            assert set(harness.statuses()) == {"waiting"}
            proxy.accept()
            time.sleep(3)
            until(lambda: len(events.committed) > 100, "the web process saves too slowly")
        wanted = harness.committed()
        until(
            lambda: set(first_arrivals(primary)) >= wanted,
            f"not all arrived: {len(first_arrivals(primary))} of {len(wanted)}",
        )
        until(lambda: set(harness.statuses()) == {"succeeded"}, f"{harness.statuses()}")
        took = time.monotonic() - began
    finally:
        proxy.refuse()
        primary.close()
        backup.close()
    assert harness.statuses() == {"succeeded": len(wanted)}
    disabled = harness.python(
        "from django_webhooks.models import Endpoint\n"
        "print(json.dumps([[e.position, e.disabled_reason] for e in"
        " Endpoint.objects.filter(disabled_at__isnull=False)]))"
    )
    assert disabled == [[1, "http_410"]]
    # What was under way at the backup when the first answer came.
    assert len(backup.requests) <= 2 * 16
    print(f"\n{len(wanted)} arrived after {took:.1f} s; {len(backup.requests)} were answered 410")

"""What the work costs the database, in statements."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from django_webhooks import tasks
from django_webhooks.events import emit
from django_webhooks.models.figures import heartbeat
from django_webhooks.sending import maintenance, worker
from django_webhooks.sending.database import carried_on
from django_webhooks.sending.fan_out import fan_out
from django_webhooks.sending.health_checks import recovery
from django_webhooks.sending.worker import dispatch
from tests import factories
from tests.factories import Clock
from tests.receivers import receiving

pytestmark = pytest.mark.django_db

#: SQLite has the clock of this machine and is not asked for it.
CLOCK = 0 if connection.vendor == "sqlite" else 1


class Statements(CaptureQueriesContext):
    """Keep the statements, without those that begin and end transactions."""

    def __init__(self):
        super().__init__(connection)

    def verbs(self):
        found = [query["sql"].split()[0] for query in self.captured_queries]
        return [verb for verb in found if verb in {"WITH", "SELECT", "INSERT", "UPDATE", "DELETE"}]


def drained(clock, ids, monkeypatch, **options):
    # While a request is under way, others look for work every few hundredths of a second.
    monkeypatch.setattr(dispatch, "TICK", 60.0)
    monkeypatch.setattr(dispatch, "DRAIN_SECONDS", 600.0)
    # A run that lasts looks for endpoints that fell; how long depends on the machine.
    monkeypatch.setattr(recovery, "EVERY", 3600.0)
    with Statements() as statements:
        worker.drain(ids, clock=clock, **options)
    return statements.verbs()


def test_one_delivery(monkeypatch):
    with receiving(204) as receiver:
        delivery = factories.delivery(receiver.url)

        verbs = drained(Clock(), [delivery.pk], monkeypatch)

    # A look is for events, for what is fresh, and for retries and replays.
    lease, load, look = ["UPDATE"], ["SELECT"] * 4, ["SELECT"] * 3
    if connection.vendor == "postgresql":
        # The delivery, its event and its subscription with what belongs to it, in one trip.
        load = ["SELECT"]
    # The first three: endpoints that stay, health, last success.
    record = ["SELECT", "SELECT", "UPDATE", "UPDATE", "INSERT"]
    assert verbs == [*lease, *load, *record, *look]


def test_a_run_that_is_told_of_an_event(monkeypatch):
    with receiving(204) as receiver:
        factories.subscription(url=receiver.url)
        # As in a process that has made deliveries before.
        heartbeat.Heartbeat.objects.lock(fan_out.LOCK)
        carried_on(using="default")
        emit("order.paid", {})

        verbs = drained(Clock(), [], monkeypatch, is_told=True)

    assert len(receiver.requests) == 1
    # The lock, the event, its listeners, the delivery that is leased at once, and the event again.
    make = ["UPDATE", "SELECT", "SELECT", "INSERT", "UPDATE"]
    load = ["SELECT"] * (1 if connection.vendor == "postgresql" else 4)
    assert verbs[: len(make) + len(load)] == [*make, *load]
    # Then it is recorded.
    assert verbs[len(make) + len(load) :][:5] == ["SELECT", "SELECT", "UPDATE", "UPDATE", "INSERT"]


def test_thirty_deliveries_cost_as_much_as_one(monkeypatch):
    with receiving(204) as receiver:
        factories.subscription(url=receiver.url)
        for number in range(30):
            factories.record(data={"id": number})

        verbs = drained(Clock(), [], monkeypatch)

    assert len(receiver.requests) == 30
    assert len(verbs) == 15


def test_nothing_to_do(monkeypatch):
    assert drained(Clock(), [], monkeypatch) == ["SELECT"] * 3


@pytest.fixture
def no_worker(monkeypatch):
    monkeypatch.setattr(tasks, "hint", lambda task: None)
    # Said once in a few seconds, whoever sweeps.
    monkeypatch.setattr(heartbeat, "beat", lambda name: None)


@pytest.mark.usefixtures("no_worker")
def test_a_sweep_of_much_costs_as_much_as_a_sweep_of_nothing():
    factories.subscription()
    # The entries of the audit trail get their place.
    tasks.sweep()
    with Statements() as idle:
        tasks.sweep()
    for number in range(30):
        factories.record(data={"id": number})
    with Statements() as busy:
        tasks.sweep()

    # Events that were left, what cannot be read, subscriptions that changed and hold something,
    # turns that were forgotten,
    # the clock, what stalled, what waits for limits, the count, bulk replays, the inbox, the audit
    # trail.
    assert idle.verbs() == ["SELECT"] * (4 + CLOCK + 6)
    assert busy.verbs() == idle.verbs()


@pytest.mark.usefixtures("no_worker")
def test_a_sweep_where_nobody_ever_listened():
    with Statements() as statements:
        tasks.sweep()

    assert statements.verbs() == ["SELECT"] * (10 + CLOCK)


def test_what_is_due_is_counted_no_further_than_asked():
    factories.subscription()
    for number in range(6):
        factories.record(data={"id": number})
    now = Clock()()

    assert [maintenance.count_due(limit=limit, now=now) for limit in (2, 6, 100)] == [2, 6, 6]

"""F11–F14, F22: what happens to the database."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest

from tests.acceptance.conftest import RABBITMQ, REDIS
from tests.acceptance.harness import PrivatePostgres, held, until
from tests.receivers import Answer

from .accounting import IN_FLIGHT
from .conftest import FAULTS, ONE_OF_BOTH, campaign

pytestmark = FAULTS

#: 30 s of the default lease of 60 s, for the campaign's lease.
OUTAGE = 6.0


def busy(harness, receiver, *, delay=0.5, count=200):
    """Start a worker and a beat on a backlog, and wait until requests are in flight."""
    receiver.answers = [Answer(204, delay=delay)]
    harness.subscribe(receiver.url)
    harness.emit(count)
    harness.worker()
    harness.beat()
    until(lambda: len(receiver.requests) >= 20, "nothing arrived")


@contextmanager
def administrator(harness) -> Iterator[Callable[[str], None]]:
    """Run statements on the server, from a database of its own; ``{}`` is the harness's name."""
    address, _, name = harness.database.rpartition("/")
    with psycopg.connect(f"{address}/postgres", autocommit=True) as server:
        yield lambda sql: server.execute(sql.replace("{}", name))


TERMINATE = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}'"


@pytest.mark.stacks(*ONE_OF_BOTH)
def test_f11_a_database_restarted_while_requests_are_in_flight(harness, receiver, account):
    server = PrivatePostgres()
    harness.database = server.url
    try:
        harness.migrate()
        busy(harness, receiver, delay=1.5, count=40)
        server.stop()
        time.sleep(1)
        server.start()
        account.clear()

        account.settle(repeats=2 * IN_FLIGHT, extra=15)
    finally:
        harness.close()
        server.close()


@pytest.mark.stacks(campaign(REDIS), campaign(RABBITMQ))
def test_f12_connections_dropped_between_claim_and_record(harness, receiver, account):
    busy(harness, receiver)

    for _ in range(3):
        with administrator(harness) as run:
            run(TERMINATE)
        time.sleep(0.7)
    account.clear()

    account.settle(repeats=3 * 2 * IN_FLIGHT, extra=15)


@pytest.mark.stacks(campaign(REDIS), campaign(RABBITMQ))
def test_f13_a_database_that_is_read_only(harness, receiver, account):
    busy(harness, receiver)

    with administrator(harness) as run:
        run('ALTER DATABASE "{}" SET default_transaction_read_only = on')
        run(TERMINATE)
        time.sleep(OUTAGE)
        run('ALTER DATABASE "{}" RESET default_transaction_read_only')
        run(TERMINATE)
    account.clear()

    account.settle(repeats=2 * IN_FLIGHT, extra=15)


DISK = """
    CREATE OR REPLACE FUNCTION disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        {}
    END $$;
"""
ROOM = DISK.format("RETURN NULL;")
FULL = DISK.format(
    "RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100';"
)
EVERY_WRITE = """
    DO $$ DECLARE one record; BEGIN
        FOR one IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' LOOP
            EXECUTE format('CREATE TRIGGER disk BEFORE INSERT OR UPDATE ON %I'
                           ' EXECUTE FUNCTION disk()', one.tablename);
        END LOOP;
    END $$
"""


@pytest.mark.stacks(campaign(REDIS), campaign(RABBITMQ))
def test_f13_a_database_that_is_full(harness, receiver, account):
    """The server refuses every write with the code of a full disk."""
    # Before there is traffic: it locks all tables. To change the function locks none.
    harness.query(ROOM + EVERY_WRITE)
    busy(harness, receiver)

    harness.query(FULL)
    until(
        lambda: any("No space left on device" in harness.log(one) for one in harness.children),
        "nothing was refused",
    )
    time.sleep(OUTAGE)
    harness.query(ROOM)
    account.clear()

    account.settle(repeats=2 * IN_FLIGHT, extra=15)


#: A lock that somebody waits for, in this database: others run tests on the server, too.
WAITS = """
    SELECT 1 FROM pg_locks l JOIN pg_stat_activity a USING (pid)
    WHERE NOT l.granted AND a.datname = current_database()
"""
#: The one request is answered when the test has locked what its result is to be written to.
UNHURRIED = {"WEBHOOKS_LEASE_SECONDS": 60.0, "WEBHOOKS_TIMEOUT_SECONDS": 30.0}


@pytest.mark.stacks(*ONE_OF_BOTH)
def test_f14_a_deadlock_on_record(harness, receiver, account):
    harness.settings |= UNHURRIED
    answers = held(receiver)
    harness.subscribe(receiver.url)
    harness.emit(1)
    worker = harness.worker(pool="solo", concurrency=1)
    harness.beat()
    until(lambda: receiver.requests, "nothing arrived")

    with psycopg.connect(harness.database) as other:
        # The worker looks for deadlocks first, so that it is the one that loses.
        other.execute("SET deadlock_timeout = '60s'")
        other.execute("LOCK TABLE django_webhooks_attempt IN EXCLUSIVE MODE")
        answers.set()
        until(
            lambda: harness.query(WAITS + " AND mode LIKE 'Row%'"),
            "the worker did not wait with the delivery locked",
        )
        other.execute("UPDATE django_webhooks_delivery SET reason = reason")
    account.clear()

    account.settle()
    until(lambda: "deadlock detected" in harness.log(worker), "there was no deadlock")
    assert len(receiver.requests) == 1


@pytest.mark.stacks(campaign(REDIS), campaign(RABBITMQ))
def test_f14_a_serialisation_failure_on_record(harness, receiver, account):
    with administrator(harness) as run:
        run("ALTER DATABASE \"{}\" SET default_transaction_isolation = 'repeatable read'")
    harness.settings |= UNHURRIED
    answers = held(receiver)
    harness.subscribe(receiver.url)
    harness.emit(1)
    worker = harness.worker(pool="solo", concurrency=1)
    harness.beat()
    until(lambda: receiver.requests, "nothing arrived")

    with psycopg.connect(harness.database) as other:
        other.execute("UPDATE django_webhooks_delivery SET reason = 'changed'")
        answers.set()
        until(
            lambda: harness.query(WAITS),
            "the worker did not wait for the row",
        )
    account.clear()

    account.settle()
    until(lambda: "could not serialize" in harness.log(worker), "there was no failure")
    assert len(receiver.requests) == 1


@pytest.mark.stacks(campaign(REDIS), campaign(RABBITMQ))
def test_f22_pruning_never_removes_what_waits(harness, receiver, account):
    receiver.answers = [Answer(503)]
    harness.settings |= {
        "WEBHOOKS_RETENTION_DAYS": {"succeeded": 0, "given_up": 0, "cancelled": 0},
        "WEBHOOKS_HEALTH_FALL": 1000,
        "django_webhooks.policies.health.WINDOW_ATTEMPTS": 10_000,
    }
    harness.subscribe(receiver.url)
    with contextlib.closing(type(receiver)()) as other:
        # The event of what waits here has arrived there, and that delivery is pruned.
        harness.subscribe(other.url)
        harness.emit(20)
        harness.worker()
        harness.beat()
        until(lambda: len(receiver.requests) >= 20 and len(other.requests) == 20, "not tried")
        until(lambda: harness.statuses().get("succeeded") == 20, "not recorded")
        time.sleep(0.1)
        harness.python("from django_webhooks import tasks\ntasks.prune()")

        assert harness.statuses() == {"waiting": 20}
        assert harness.query("SELECT count(*) FROM django_webhooks_event") == [(20,)]
        receiver.answers = [Answer(204)]
        account.clear()
        account.settle()

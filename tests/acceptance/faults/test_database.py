"""F11–F14, F22: what happens to the database."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest

from tests.acceptance.conftest import RABBITMQ, REDIS
from tests.acceptance.stage import PrivatePostgres, until
from tests.receivers import Answer

from .accounting import IN_FLIGHT
from .conftest import FAULTS, ONE_OF_BOTH, campaign

pytestmark = FAULTS

#: 30 s of the default lease of 60 s, for the campaign's lease.
OUTAGE = 4.0


def busy(stage, receiver, *, delay=0.5, count=200):
    """Start a worker and a beat on a backlog, and wait until requests are in flight."""
    receiver.answers = [Answer(204, delay=delay)]
    stage.subscribe(receiver.url)
    stage.emit(count)
    stage.worker()
    stage.beat()
    until(lambda: len(receiver.requests) >= 20, "nothing arrived")


@contextmanager
def administrator(stage) -> Iterator[Callable[[str], None]]:
    """Run statements on the server, from another database than the stage's; ``{}`` is its name."""
    address, _, name = stage.database.rpartition("/")
    with psycopg.connect(f"{address}/postgres", autocommit=True) as server:
        yield lambda sql: server.execute(sql.replace("{}", name))


TERMINATE = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}'"


@pytest.mark.stacks(*ONE_OF_BOTH)
def test_f11_a_database_restarted_while_requests_are_in_flight(stage, receiver, account, tmp_path):
    (tmp_path / "postgres").mkdir()
    for folder in (tmp_path, *tmp_path.parents[:2]):
        # Its server runs under an account of its own.
        folder.chmod(0o755)
    server = PrivatePostgres(tmp_path / "postgres")
    stage.database = server.url
    try:
        stage.migrate()
        busy(stage, receiver, delay=1.5, count=40)
        server.stop()
        time.sleep(1)
        server.start()
        account.clear()

        account.settle(repeats=2 * IN_FLIGHT, extra=15)
    finally:
        stage.close()
        server.close()


@pytest.mark.stacks(campaign(REDIS), campaign(RABBITMQ))
def test_f12_connections_dropped_between_claim_and_record(stage, receiver, account):
    busy(stage, receiver)

    for _ in range(3):
        with administrator(stage) as run:
            run(TERMINATE)
        time.sleep(0.7)
    account.clear()

    account.settle(repeats=3 * 2 * IN_FLIGHT, extra=15)


@pytest.mark.stacks(campaign(REDIS), campaign(RABBITMQ))
def test_f13_a_database_that_is_read_only(stage, receiver, account):
    busy(stage, receiver)

    with administrator(stage) as run:
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
def test_f13_a_database_that_is_full(stage, receiver, account):
    """The server refuses every write with the code of a full disk."""
    # Before there is traffic: it locks all tables. To change the function locks none.
    stage.query(ROOM + EVERY_WRITE)
    busy(stage, receiver)

    stage.query(FULL)
    until(
        lambda: any("No space left on device" in stage.log(one) for one in stage.children),
        "nothing was refused",
    )
    time.sleep(OUTAGE)
    stage.query(ROOM)
    account.clear()

    account.settle(repeats=2 * IN_FLIGHT, extra=15)


@pytest.mark.stacks(*ONE_OF_BOTH)
def test_f14_a_deadlock_on_record(stage, receiver, account):
    receiver.answers = [Answer(204, delay=1.0)]
    stage.subscribe(receiver.url)
    stage.emit(1)
    worker = stage.worker(pool="solo", concurrency=1)
    stage.beat()
    until(lambda: receiver.requests, "nothing arrived")

    with psycopg.connect(stage.database) as other:
        # The worker looks for deadlocks first, so that it is the one that loses.
        other.execute("SET deadlock_timeout = '60s'")
        other.execute("LOCK TABLE django_webhooks_attempt IN EXCLUSIVE MODE")
        until(
            lambda: stage.query("SELECT 1 FROM pg_locks WHERE NOT granted AND mode LIKE 'Row%'"),
            "the worker did not wait with the delivery locked",
        )
        other.execute("UPDATE django_webhooks_delivery SET reason = reason")
    account.clear()

    account.settle()
    until(lambda: "deadlock detected" in stage.log(worker), "there was no deadlock")
    assert len(receiver.requests) == 1


@pytest.mark.stacks(campaign(REDIS), campaign(RABBITMQ))
def test_f14_a_serialisation_failure_on_record(stage, receiver, account):
    with administrator(stage) as run:
        run("ALTER DATABASE \"{}\" SET default_transaction_isolation = 'repeatable read'")
    receiver.answers = [Answer(204, delay=1.0)]
    stage.subscribe(receiver.url)
    stage.emit(1)
    worker = stage.worker(pool="solo", concurrency=1)
    stage.beat()
    until(lambda: receiver.requests, "nothing arrived")

    with psycopg.connect(stage.database) as other:
        other.execute("UPDATE django_webhooks_delivery SET reason = 'changed'")
        until(
            lambda: stage.query("SELECT 1 FROM pg_locks WHERE NOT granted"),
            "the worker did not wait for the row",
        )
    account.clear()

    account.settle()
    until(lambda: "could not serialize" in stage.log(worker), "there was no failure")
    assert len(receiver.requests) == 1


@pytest.mark.stacks(campaign(REDIS), campaign(RABBITMQ))
def test_f22_pruning_never_removes_what_waits(stage, receiver, account):
    receiver.answers = [Answer(503)]
    stage.settings |= {
        "WEBHOOKS_RETENTION_DAYS": {"succeeded": 0, "given_up": 0, "cancelled": 0},
        "WEBHOOKS_HEALTH_FALL": 1000,
        "WEBHOOKS_HEALTH_WINDOW_ATTEMPTS": 10_000,
    }
    stage.subscribe(receiver.url)
    with contextlib.closing(type(receiver)()) as other:
        # The event of what waits here has arrived there, and that delivery is pruned.
        stage.subscribe(other.url)
        stage.emit(20)
        stage.worker()
        stage.beat()
        until(lambda: len(receiver.requests) >= 20 and len(other.requests) == 20, "not tried")
        until(lambda: stage.statuses().get("succeeded") == 20, "not recorded")
        time.sleep(0.1)
        stage.python("from django_webhooks import tasks\ntasks.prune()")

        assert stage.statuses() == {"waiting": 20}
        assert stage.query("SELECT count(*) FROM django_webhooks_event") == [(20,)]
        receiver.answers = [Answer(204)]
        account.clear()
        account.settle()

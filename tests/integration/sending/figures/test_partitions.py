"""The SQL of docs/howto/scale.md: partitions of the attempts, and settings of the tables."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.db import connection

from django_webhooks import times
from django_webhooks.fields import uuid7_at
from django_webhooks.models import Attempt, Delivery
from django_webhooks.sending import maintenance, worker
from django_webhooks.sending.figures import rollups
from tests import factories
from tests.factories import Clock
from tests.receivers import receiving
from tests.unit.test_docs import page

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.skipif(connection.vendor != "postgresql", reason="PostgreSQL's own"),
]


def blocks(heading):
    section = page("howto/scale.md").split(f"## {heading}\n")[1].split("\n## ")[0]
    found = re.findall(r"```sql\n(.*?)```", section, re.S)
    # The test has a transaction of its own.
    return [re.sub(r"^(BEGIN|COMMIT);$", "", one, flags=re.M) for one in found]


def execute(sql):
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute(sql)
        cursor.execute("SET CONSTRAINTS ALL DEFERRED")


def rows_in(table):
    with connection.cursor() as cursor:
        cursor.execute(f'SELECT count(*) FROM ONLY "{table}"')
        return cursor.fetchone()[0]


def partitions():
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT inhrelid::regclass::text FROM pg_inherits "
            "WHERE inhparent = 'django_webhooks_attempt'::regclass ORDER BY 1"
        )
        return [name for (name,) in cursor.fetchall()]


@pytest.fixture
def partitioned():
    """The functions, and the table made anew, with an attempt that was there before."""
    with receiving(503) as receiver:
        factories.delivery(receiver.url)
        worker.drain(clock=Clock())
    functions, move, _, _, _ = blocks("PostgreSQL: partitions")
    execute(functions)
    execute(move)


def attempt_at(delivery, moment, number):
    key = uuid7_at(moment).int + number
    return Attempt.objects.create(
        id=type(delivery.pk)(int=key), delivery=delivery, number=number, outcome="retry"
    )


@pytest.mark.usefixtures("partitioned")
def test_what_was_there_stays_and_weeks_follow():
    weeks = [name for name in partitions() if re.search(r"_\d{8}$", name)]

    assert Attempt.objects.count() == rows_in("django_webhooks_attempt_before") == 1
    assert len(weeks) == 4
    assert len(partitions()) == 6
    execute(blocks("PostgreSQL: partitions")[2])  # What cron does, as often as it likes.
    assert len(partitions()) == 6
    execute("SELECT webhooks_attempt_partition(current_date + 700 - (current_date + 700 - "
            "date '2024-01-01') % 7)")  # fmt: skip
    assert len(partitions()) == 7


@pytest.mark.usefixtures("partitioned")
def test_the_moments_of_the_partitions_are_those_of_the_keys():
    moment = times.now()
    with connection.cursor() as cursor:
        cursor.execute("SELECT webhooks_key_at(%s)", [moment])
        [found] = cursor.fetchone()

    assert found.int >> 80 == uuid7_at(moment).int >> 80
    assert found <= uuid7_at(moment)


@pytest.mark.usefixtures("partitioned")
def test_each_week_has_its_attempts_and_what_has_no_week_is_not_lost():
    delivery = Delivery.objects.get()
    now = times.now()
    for number, days in enumerate((10, 300), 10):
        attempt_at(delivery, now + timedelta(days=days), number)

    [week] = [name for name in partitions() if re.search(r"_\d{8}$", name) and rows_in(name)]
    assert rows_in("django_webhooks_attempt_default") == 1
    with connection.cursor() as cursor:
        cursor.execute("EXPLAIN SELECT 1 FROM django_webhooks_attempt WHERE id >= %s AND id < %s",
                       [uuid7_at(now + timedelta(days=10)),
                        uuid7_at(now + timedelta(days=10, seconds=1))])  # fmt: skip
        plan = str(cursor.fetchall())
    assert week in plan
    assert "django_webhooks_attempt_before" not in plan


@pytest.mark.usefixtures("partitioned")
def test_the_app_works_as_ever():
    clock = Clock()
    clock.move(minutes=1)
    with receiving(204) as receiver:
        delivery = factories.delivery(receiver.url)
        worker.drain(clock=clock)
    rollups.count()

    assert delivery.attempts.get().outcome == "succeeded"
    assert Attempt.objects.filter(endpoint_host__startswith="127").count() >= 2
    Delivery.objects.filter(pk=delivery.pk).update(finished_at=clock() - timedelta(days=31))
    assert maintenance.prune(now=clock()) == 1
    assert not Attempt.objects.filter(delivery=delivery.pk).exists()


@pytest.mark.usefixtures("partitioned")
def test_an_old_partition_is_dropped_and_its_deliveries_stay():
    _, _, _, drop, _ = blocks("PostgreSQL: partitions")
    delivery = Delivery.objects.get()
    [name] = set(re.findall(r"django_webhooks_attempt_\d{8}", drop))
    week = next(one for one in partitions() if re.search(r"_\d{8}$", one))
    attempt_at(delivery, times.now() + timedelta(days=8), 5)

    execute(drop.replace(name, week))

    assert week not in partitions()
    assert Delivery.objects.get() == delivery
    clock = Clock()
    Delivery.objects.update(status="given_up", due_at=None, finished_at=clock() - timedelta(99))
    assert maintenance.prune(now=clock()) == 1


@pytest.mark.usefixtures("partitioned")
def test_the_way_back_is_the_recipe_of_the_page():
    *_, back = blocks("PostgreSQL: partitions")
    attempt_at(Delivery.objects.get(), times.now() + timedelta(days=8), 5)

    execute(back)

    assert partitions() == []
    assert Attempt.objects.count() == 2
    with receiving(204) as receiver:
        factories.delivery(receiver.url)
        worker.drain(clock=Clock())
    assert Attempt.objects.filter(outcome="succeeded").count() == 1


def test_the_settings_of_the_tables_are_taken():
    [sql] = blocks("PostgreSQL: vacuum and disk")
    execute(sql)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT relname, reloptions FROM pg_class WHERE reloptions IS NOT NULL "
            "AND relname LIKE 'django\\_webhooks\\_%%' ORDER BY 1"
        )
        found = dict(cursor.fetchall())

    assert sorted(found) == sorted(set(re.findall(r"ALTER TABLE (\w+)", sql)))
    assert "autovacuum_vacuum_scale_factor=0.01" in found["django_webhooks_delivery"]

"""Connections that outlive a task."""

from __future__ import annotations

import threading

import pytest
from django.db import connection, connections, transaction

from django_webhooks import tasks
from django_webhooks.inbox import tasks as inbox_tasks
from django_webhooks.sending.database import persistent_connection

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _own_connection(monkeypatch):
    """Let the test do what it likes with the connection of its thread."""
    before = connections["default"]
    monkeypatch.setitem(before.settings_dict, "CONN_MAX_AGE", None)
    before.close()
    del connections["default"]
    yield
    for _, kept in persistent_connection._kept.values():
        kept.close()
    persistent_connection._kept.clear()
    connections["default"].close()
    connections["default"] = before


def ask():
    with connections["default"].cursor() as cursor:
        cursor.execute("SELECT 1")
    return connections["default"].connection


def task():
    """Do what Celery does around each task."""
    with persistent_connection.connection(using="default"):
        asked = ask()
    for one in connections.all(initialized_only=True):
        one.close()
    return asked


def test_a_task_has_the_connection_of_the_task_before():
    assert task() is task()


def test_others_between_two_tasks_have_one_of_their_own():
    kept = task()

    own = ask()
    connections["default"].close()

    assert own is not kept
    assert task() is kept


def test_a_thread_that_is_connected_stays_so():
    own = ask()

    with persistent_connection.connection(using="default"):
        assert ask() is own
    assert ask() is own
    assert persistent_connection._kept == {}


@pytest.mark.parametrize("task", [tasks.deliver, inbox_tasks.handle], ids=["deliver", "handle"])
def test_a_worker_keeps_the_connection_of_what_is_sent_and_handled(task):
    task.push_request(called_directly=False, is_eager=False, retries=0)
    try:
        task()
    finally:
        task.pop_request()

    assert [alias for alias, _ in persistent_connection._kept] == ["default"]


@pytest.mark.parametrize("task", [tasks.deliver, inbox_tasks.handle], ids=["deliver", "handle"])
def test_what_is_run_eagerly_keeps_none(task):
    task.apply()

    assert persistent_connection._kept == {}


def test_none_is_kept_where_django_closes_it_after_each_request(monkeypatch):
    monkeypatch.setitem(connections["default"].settings_dict, "CONN_MAX_AGE", 0)

    task()

    assert persistent_connection._kept == {}


def test_one_that_is_too_old_is_replaced():
    first = task()
    ((_, wrapper),) = persistent_connection._kept.values()
    wrapper.close_at = 0.0

    assert task() is not first


@pytest.mark.parametrize("idle_for", [0.0, persistent_connection.TRUSTED])
def test_one_that_does_not_work_any_more_is_replaced_after_a_while(idle_for, monkeypatch):
    first = task()
    [(key, (since, wrapper))] = persistent_connection._kept.items()
    monkeypatch.setattr(wrapper, "is_usable", lambda: False)
    persistent_connection._kept[key] = (since - idle_for, wrapper)

    assert (task() is first) == (idle_for < persistent_connection.TRUSTED)


@pytest.mark.skipif(connection.vendor != "postgresql", reason="asks PostgreSQL to close it")
def test_one_that_the_server_closed_is_replaced(monkeypatch):
    monkeypatch.setattr(persistent_connection, "TRUSTED", 0.0)
    first = task()
    with connections["default"].cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s)", [first.info.backend_pid])
    connections["default"].close()

    assert task() is not first


def test_one_whose_task_failed_is_not_kept():
    @persistent_connection.connection(using="default")
    def failing():
        ask()
        raise LookupError

    with pytest.raises(LookupError):
        failing()

    assert persistent_connection._kept == {}


def test_nothing_is_kept_where_nothing_was_asked():
    with persistent_connection.connection(using="default"):
        pass

    assert persistent_connection._kept == {}


def test_a_task_in_a_transaction_stays_on_its_connection():
    with transaction.atomic():
        before = connections["default"]
        with persistent_connection.connection(using="default"):
            ask()

        assert connections["default"] is before
    assert persistent_connection._kept == {}


def test_a_task_in_another_thread_keeps_none():
    thread = threading.Thread(target=task)
    thread.start()
    thread.join()

    assert persistent_connection._kept == {}

"""Repeats of stored messages: known at once, whatever a worker does meanwhile."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager

import pytest
from django.db import OperationalError, connection, transaction

from django_webhooks import times
from django_webhooks.inbox import deduplication, worker
from django_webhooks.inbox.models import InboxMessage
from django_webhooks.receiving.handlers import Handling
from django_webhooks.receiving.message import Message

HANDLING = Handling(source="view", run=lambda request, message: None, background=True)


def row():
    message = Message(scheme="standard", id="msg_1", body=b"{}")
    return deduplication.row(message, handling=HANDLING, path="/hook/", captured=[])


def store(told):
    return worker.store(row(), told.append, using="default")


@pytest.mark.django_db(transaction=True)
def test_a_repeat_of_a_stored_message_is_counted_and_nobody_is_told():
    told = []

    stored = [store(told) for _ in range(3)]

    assert stored == [True, False, False]
    assert told == [InboxMessage.objects.get().pk]
    assert InboxMessage.objects.get().repeats == 2


@contextmanager
def meanwhile(act):
    """Hold what another connection does in a transaction that does not end."""
    if not connection.features.has_select_for_update_skip_locked:
        pytest.skip("one writer at a time")
    held, release = threading.Event(), threading.Event()

    def hold():
        try:
            with transaction.atomic():
                act()
                held.set()
                release.wait(100)
                transaction.set_rollback(True)
        finally:
            connection.close()

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        assert held.wait(60)
        yield
    finally:
        release.set()
        thread.join(30)


def handle():
    """Do what a worker does before its handler runs."""
    InboxMessage.objects.update(status="handled", due_at=None, finished_at=times.now())


def patience():
    """Return how long this connection waits for a lock."""
    questions = {
        "postgresql": "SHOW lock_timeout",
        "mysql": "SELECT @@SESSION.innodb_lock_wait_timeout",
    }
    with connection.cursor() as cursor:
        cursor.execute(questions.get(connection.vendor, "SELECT 0"))
        return cursor.fetchone()


@pytest.mark.django_db(transaction=True)
def test_a_repeat_does_not_wait_for_the_worker_that_handles_the_message(monkeypatch):
    monkeypatch.setattr(deduplication, "WAIT_SECONDS", 60.0)
    store([])
    before = patience()

    with meanwhile(handle):
        began = time.monotonic()
        is_new = store([])
        seconds = time.monotonic() - began

    assert is_new is False
    assert seconds < 30
    assert patience() == before
    # Whose row is held cannot be counted.
    assert InboxMessage.objects.get().repeats == 0


@pytest.mark.django_db(transaction=True)
def test_a_message_that_is_handled_for_long_is_an_error_of_the_database(monkeypatch):
    monkeypatch.setattr(deduplication, "WAIT_SECONDS", 1.0)
    before = patience()

    with (
        meanwhile(lambda: deduplication.insert(row(), using="default")),
        pytest.raises(OperationalError),
        transaction.atomic(),
    ):
        deduplication.insert(row(), using="default")

    assert patience() == before
    assert store([])

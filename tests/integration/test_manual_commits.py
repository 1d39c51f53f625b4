"""Projects that end their transactions by hand: nothing raises, and the sweep finds the rest."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connection, transaction

import django_webhooks
from django_webhooks import events, tasks, times, wakeups
from django_webhooks.auditing.models import AuditEntry
from django_webhooks.commits import after_commit
from django_webhooks.models import Delivery, Endpoint, Event, Subscription
from django_webhooks.sending.database import persistent_connection
from tests import factories
from tests.receivers import receiving
from tests.testapp.hooks import registered
from tests.testapp.models import Order

pytestmark = pytest.mark.django_db(transaction=True)


@contextmanager
def by_hand(using: str = "default") -> Iterator[Callable[[], None]]:
    """End transactions by hand, and put everything back in the end."""
    transaction.set_autocommit(False, using=using)
    try:
        yield lambda: transaction.commit(using=using)
    finally:
        transaction.rollback(using=using)
        transaction.set_autocommit(True, using=using)


@contextmanager
def by_django(how: Callable[[], object]) -> Iterator[Callable[[], None]]:
    with how():
        yield lambda: None


MANNERS = [
    pytest.param(by_hand, False, id="set_autocommit(False)"),
    pytest.param(lambda: by_django(nullcontext), True, id="autocommit"),
    pytest.param(lambda: by_django(transaction.atomic), True, id="atomic"),
    pytest.param(lambda: by_django(lambda: transaction.atomic(durable=True)), True, id="durable"),
]


@pytest.fixture
def woken(monkeypatch):
    found = []
    monkeypatch.setattr(wakeups, "wake_for_events", found.append)
    return found


@pytest.fixture
def hinted(monkeypatch):
    found = []
    monkeypatch.setattr(tasks, "hint", found.append)
    return found


def emit_one():
    events.emit("order.paid", {"id": 1})


def emit_two():
    events.emit_many([events.Draft(event_type="order.paid", data={"id": n}) for n in (1, 2)])


def emit_with_key():
    events.emit("order.paid", {"id": 1}, idempotency_key="once")


def save():
    with registered(Order):
        Order.objects.create(number="1")


def save_and_change():
    with registered(Order):
        order = Order.objects.create(number="1")
        order.number = "2"
        order.save()


@pytest.mark.parametrize(("replay_options", "is_told"), MANNERS)
@pytest.mark.parametrize("act", [emit_one, emit_two, emit_with_key, save, save_and_change])
def test_an_event_is_recorded_and_found(replay_options, is_told, act, woken, hinted):
    factories.subscription(event_types=["*"])

    with replay_options() as commit:
        act()
        commit()

    assert Event.objects.waiting().count() >= 1
    assert bool(woken) is is_told
    tasks.sweep()
    assert Event.objects.count() == Delivery.objects.count() >= 1
    assert hinted == [tasks.deliver]


@pytest.mark.parametrize("act", [emit_one, emit_two, save])
def test_what_is_rolled_back_by_hand_is_gone(act, woken):
    factories.subscription(event_types=["*"])

    with by_hand():
        act()
        transaction.rollback()

    assert (Event.objects.count(), Delivery.objects.count(), woken) == (0, 0, [])


def subscribe():
    Endpoint.objects.create(
        subscription=Subscription.objects.create(name="new", event_types=["*"]),
        url="https://new.example.com/",
    )


def pause():
    Subscription.objects.get(name="Test").pause()


def pin():
    Endpoint.objects.get().pin("why", by="ann")


def delete():
    Subscription.objects.get(name="Test").delete()


@pytest.mark.parametrize("act", [subscribe, pause, pin, delete])
def test_what_people_change_is_changed_and_noted(act):
    factories.subscription(name="Test")
    noted = AuditEntry.objects.count()

    with by_hand() as commit:
        act()
        commit()

    assert AuditEntry.objects.count() > noted
    tasks.sweep()
    assert not AuditEntry.objects.filter(sequence__isnull=True).exists()


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_hooks_of_another_database_tell_before_a_commit_that_nobody_hears_of():
    factories.subscription(event_types=["*"])

    with registered(Order), by_hand("other") as commit:
        Order.objects.using("other").create(number="1")
        commit()

    assert Event.objects.count() == 1


def test_it_says_whether_it_will_be_done():
    done = []

    assert after_commit(lambda: done.append("at once"), using="default")
    with transaction.atomic():
        assert after_commit(lambda: done.append("later"), using="default")
        assert done == ["at once"]
    with by_hand():
        assert not after_commit(lambda: done.append("never"), using="default")

    assert done == ["at once", "later"]


@pytest.fixture(params=[tasks.prune, tasks.deliver], ids=["prune", "deliver"])
def run_by_a_worker(request):
    """Run a task as a worker does."""
    task = request.param

    def run():
        task.push_request(called_directly=False, is_eager=False, retries=0)
        try:
            task()
        finally:
            task.pop_request()

    run.task = task
    return run


@pytest.mark.parametrize("age", [0, 60])
def test_a_worker_commits_where_the_project_does_not(run_by_a_worker, monkeypatch, age):
    """AUTOCOMMIT: False in DATABASES, with connections that are kept and that are not."""
    with receiving() as receiver:
        delivery = factories.delivery(receiver.url)
        Delivery.objects.update(due_at=times.now() - timedelta(seconds=5))
        if run_by_a_worker.task is tasks.prune:
            Subscription.objects.all().delete()
            Delivery.objects.update(
                status="waiting", reason="", finished_at=None, due_at=times.now()
            )
        connection.close()
        with monkeypatch.context() as patch:
            patch.setitem(connection.settings_dict, "AUTOCOMMIT", False)
            patch.setitem(connection.settings_dict, "CONN_MAX_AGE", age)
            for _ in range(2):
                run_by_a_worker()
            connection.rollback()
            assert not connection.get_autocommit()
        persistent_connection._kept.clear()
        connection.close()

    delivery.refresh_from_db()
    assert delivery.status in {"succeeded", "cancelled"}


def test_nothing_else_asks_django_for_a_hook():
    root = Path(django_webhooks.__file__).parent
    users = [
        path.name
        for path in root.rglob("*.py")
        if re.search(r"\bon_commit\(", path.read_text(encoding="utf-8"))
    ]

    assert users == ["commits.py"]

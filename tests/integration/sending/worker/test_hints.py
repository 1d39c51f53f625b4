"""Hints: what tells a worker to look, and when one does nothing."""

from __future__ import annotations

from datetime import timedelta

import pytest

from django_webhooks import tasks
from django_webhooks.inbox import tasks as inbox_tasks
from django_webhooks.models.figures import heartbeat
from django_webhooks.models.figures.heartbeat import Heartbeat
from django_webhooks.sending import database, maintenance, worker
from django_webhooks.sending.worker import hints
from django_webhooks.sending.worker.dispatch import Drained
from tests import factories

pytestmark = pytest.mark.django_db


def ago(seconds):
    return database.carried_on(using="default")() - timedelta(seconds=seconds)


@pytest.fixture
def needless(monkeypatch):
    """Ask at one moment, however long the test takes."""
    now = ago(0)
    monkeypatch.setattr(database, "carried_on", lambda *, using: lambda: now)
    monkeypatch.setattr(hints, "carried_on", database.carried_on)
    return _needless


def _needless(*, sent, ran=None, task="deliver"):
    if ran is not None:
        Heartbeat.objects.update_or_create(name="deliver", defaults={"at": ago(ran)})
    return hints.is_needless(ago(sent).timestamp(), task, using="default")


@pytest.mark.parametrize(
    ("sent", "ran", "expected"),
    [
        pytest.param(1, 1, False, id="a free worker took it at once"),
        pytest.param(60, 1, True, id="it waited while others worked"),
        pytest.param(60, 14, True, id="a run that goes on has begun as long ago as it lasts"),
        pytest.param(60, 600, False, id="it waited behind other tasks, and nobody works"),
        pytest.param(60, None, False, id="nobody ever worked"),
        pytest.param(-3600, 1, False, id="a clock was set back since"),
        pytest.param(60, -3600, False, id="a run of a moment to come says nothing"),
    ],
)
def test_when_one_is_needless(needless, sent, ran, expected):
    assert needless(sent=sent, ran=ran) is expected


def test_a_run_of_another_task_says_nothing(needless):
    assert not needless(sent=60, ran=1, task="handle")


@pytest.mark.parametrize("sent", [None, "soon", [], {}])
def test_what_is_no_moment_is_heeded(sent):
    Heartbeat.objects.create(name="deliver")

    assert not hints.is_needless(sent, "deliver", using="default")


@pytest.fixture
def queue(monkeypatch):
    """The messages that wait, the oldest first, of workers that all have something to do."""
    waiting = []

    def apply_async(args=(), *, headers=None, **options):
        waiting.append((list(args), headers or {}))

    for task in (tasks.deliver, inbox_tasks.handle):
        monkeypatch.setattr(task, "apply_async", apply_async)
    return waiting


def work(ids, headers, **request):
    """Do as a worker does with a message."""
    request = {"called_directly": False, "is_eager": False, "retries": 0, **request}
    tasks.deliver.push_request(args=(ids,), kwargs={}, **headers, **request)
    try:
        tasks.deliver.run(*ids)
    finally:
        tasks.deliver.pop_request()


def test_hints_do_not_pile_up_however_long_the_backlog_lasts(queue, monkeypatch):
    """One worker, ten seconds a run, more due than it sends, and a sweep every ten seconds."""
    seconds, runs = [0.0], []
    began = ago(0)
    monkeypatch.setattr(
        hints, "carried_on", lambda *, using: lambda: began + timedelta(seconds=seconds[0])
    )
    monkeypatch.setattr(maintenance, "count_due", lambda *, limit, **options: limit)

    def drain(ids, **options):
        Heartbeat.objects.update_or_create(
            name="deliver", defaults={"at": began + timedelta(seconds=seconds[0])}
        )
        runs.append(seconds[0])
        seconds[0] += 10
        return Drained(is_more_due=True)

    monkeypatch.setattr(worker, "drain", drain)
    monkeypatch.setattr(heartbeat, "beat", lambda name: None)
    lengths = []
    for _ in range(60):
        tasks.sweep()
        while queue and seconds[0] < 10 * (len(lengths) + 1):
            work(*queue.pop(0))
        lengths.append(len(queue))

    assert len(runs) == 60
    assert max(lengths) <= 2 * tasks.MAX_WAKE_UPS


def test_what_names_deliveries_is_no_hint(monkeypatch):
    Heartbeat.objects.create(name="deliver")
    found = []
    monkeypatch.setattr(worker, "drain", lambda ids, **options: found.append(ids) or Drained())
    key = factories.event().pk

    work([[str(key)]], {hints.HEADER: ago(60).timestamp()})

    assert found == [[key]]


@pytest.mark.parametrize(
    ("request_", "expected"), [({}, 0), ({"retries": 1}, 1), ({"is_eager": True}, 1)]
)
def test_a_retry_has_a_moment_of_its_own(monkeypatch, request_, expected):
    Heartbeat.objects.update_or_create(name="deliver", defaults={"at": ago(1)})
    found = []
    monkeypatch.setattr(worker, "drain", lambda ids, **options: found.append(ids) or Drained())

    work([], {hints.HEADER: ago(60).timestamp()}, **request_)

    assert len(found) == expected

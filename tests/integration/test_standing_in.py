"""Standing in: runs do the rounds of beat that wait in the queue behind them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from smtplib import SMTPServerDisconnected

import pytest
import time_machine
from django.core import mail
from django.utils import timezone
from kombu.exceptions import OperationalError as BrokerError

from django_webhooks import beat, tasks
from django_webhooks.exceptions import RetryLater
from django_webhooks.models import Health, Probe, Pulse
from django_webhooks.sending import clock, dispatch, notices, pulses, rounds
from django_webhooks.sending.dispatch import Drained
from tests import factories
from tests.receivers import receiving

pytestmark = pytest.mark.django_db


@pytest.fixture
def old(monkeypatch):
    """A process that looks after every run."""
    monkeypatch.setattr(rounds, "EVERY", 0.0)


def ran(name, *, ago):
    at = clock.carried_on(using="default")() - timedelta(seconds=ago)
    Pulse.objects.update_or_create(name=name, defaults={"at": at})


def is_missed(name):
    return rounds._missed([name]) == [name]


def went(name):
    """Run something, and say which rounds were done after it."""
    done = []
    with rounds.standing_in({name: lambda: done.append(name)}):
        assert done == []
    return done


def work(task=tasks.deliver, **request):
    """Do as a worker does with a message."""
    request = {"called_directly": False, "is_eager": False, "retries": 0, **request}
    task.push_request(args=(), kwargs={}, **request)
    try:
        task.run()
    finally:
        task.pop_request()


@pytest.mark.parametrize(
    ("ago", "expected"),
    [
        pytest.param(22, ["sweep"], id="missed"),
        pytest.param(18, [], id="in time"),
        pytest.param(-3600, ["sweep"], id="a clock was set back since"),
        pytest.param(100_000, [], id="the project does without it by now"),
        pytest.param(None, [], id="the project does without it"),
    ],
)
def test_what_is_missed(old, ago, expected):
    if ago is not None:
        ran("sweep", ago=ago)

    assert went("sweep") == expected


def test_it_is_done_once(old):
    ran("sweep", ago=60)

    assert went("sweep") == ["sweep"]
    assert went("sweep") == []


def test_who_looks_at_the_same_time_does_not_do_it_as_well(old):
    ran("sweep", ago=60)

    assert is_missed("sweep")
    assert [rounds._take_over("sweep"), rounds._take_over("sweep")] == [True, False]


def test_a_process_looks_now_and_then(django_assert_num_queries, monkeypatch):
    ran("sweep", ago=60)
    seconds = [100.0]
    monkeypatch.setattr(rounds.time, "monotonic", lambda: seconds[0])

    with django_assert_num_queries(0):
        assert went("sweep") == []
    seconds[0] += rounds.EVERY - 0.1
    with django_assert_num_queries(0):
        assert went("sweep") == []
    seconds[0] += 0.2
    assert went("sweep") == ["sweep"]
    ran("sweep", ago=60)
    with django_assert_num_queries(0):
        assert went("sweep") == []


def test_a_run_that_failed_does_nothing_more(old):
    ran("sweep", ago=60)
    done = []

    with (
        pytest.raises(ValueError, match="mine"),
        rounds.standing_in({"sweep": lambda: done.append("sweep")}),
    ):
        raise ValueError("mine")

    assert done == []
    assert is_missed("sweep")


def test_a_round_that_fails_ends_the_rounds_and_not_the_run(old, caplog):
    ran("check_health", ago=60)
    ran("sweep", ago=60)
    done = []

    def fail():
        raise ValueError("broken")

    both = {"sweep": fail, "check_health": lambda: done.append("check_health")}
    with rounds.standing_in(both):
        pass
    assert done == []
    assert "What beat asks for was missed, and failed: sweep." in caplog.text

    # The next run does the other one.
    with rounds.standing_in(both):
        pass
    assert done == ["check_health"]


@pytest.mark.parametrize("task", [tasks.deliver, tasks.handle])
def test_runs_check_endpoints_and_sweep(old, monkeypatch, task):
    ran("check_health", ago=60)
    ran("sweep", ago=60)
    released = []
    monkeypatch.setattr(tasks.upkeep, "release_forgotten", lambda: released.append(1))
    with receiving() as receiver:
        factories.subscription(url=receiver.url)
        Health.objects.update(probe_due_at=timezone.now() - timedelta(seconds=1))
        work(task)

    assert [one.succeeded for one in Probe.objects.all()] == [True]
    assert released == [1]
    assert not is_missed("check_health")
    assert not is_missed("sweep")


def outage():
    factories.subscription(name="broken")
    since = timezone.now() - timedelta(minutes=5)
    Health.objects.update(
        state="unhealthy", failing_since=since, since=since, reason="timeout", hold=30
    )


def test_the_mails_of_an_outage_do_not_wait_in_the_queue_either(old, monkeypatch, settings):
    settings.WEBHOOKS_NOTIFY = ["ops@example.com"]
    ran("check_health", ago=60)
    outage()

    def refuse(*args, **options):
        raise BrokerError("the queue is full")

    monkeypatch.setattr(tasks.notify, "delay", refuse)
    work()

    assert len(mail.outbox) == 1


def test_a_mail_server_that_is_down_fails_no_run(old, monkeypatch, settings, caplog):
    settings.WEBHOOKS_NOTIFY = ["ops@example.com"]
    ran("check_health", ago=60)
    outage()

    def fail():
        raise SMTPServerDisconnected("gone")

    monkeypatch.setattr(notices, "tell", fail)
    work()

    assert "failed: check_health" in caplog.text


@pytest.mark.parametrize(
    ("task", "module"), [(tasks.deliver, dispatch), (tasks.handle, tasks.background)]
)
def test_a_retry_does_not_wait_for_the_rounds(old, monkeypatch, task, module):
    ran("sweep", ago=60)
    monkeypatch.setattr(module, "drain", lambda ids, **options: Drained(next_in=5.0))
    monkeypatch.setattr(task, "retry", lambda *, exc, **options: exc)
    began = datetime.now(UTC)
    with time_machine.travel(began, tick=False) as time:
        monkeypatch.setattr(tasks, "sweep", lambda: time.shift(60))
        with pytest.raises(RetryLater) as caught:
            work(task)

    assert caught.value.at == began + timedelta(seconds=5)


def test_an_eager_run_does_nothing_more(old):
    ran("check_health", ago=60)

    work(is_eager=True)

    assert is_missed("check_health")


@pytest.mark.parametrize("name", ["sweep", "check_health"])
def test_a_round_that_beat_asks_for_in_time_is_never_missed(name):
    longest = beat.SCHEDULE[f"django_webhooks.{name}"]["schedule"] + pulses.EVERY

    assert longest < rounds.MISSED.total_seconds()

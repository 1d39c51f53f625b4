"""The tasks: thin, and honest about retries."""

from __future__ import annotations

from contextlib import ExitStack, nullcontext
from datetime import UTC, datetime, timedelta

import pytest
from celery import Celery
from celery.exceptions import Retry
from django.conf import settings as django_settings
from django.db import OperationalError
from django.test import override_settings

from django_webhooks import tasks, wakeups
from django_webhooks.exceptions import RetryLater
from django_webhooks.models import Delivery
from django_webhooks.sending import worker
from django_webhooks.sending.worker.dispatch import Drained
from django_webhooks.wakeups import Eagerness
from tests import factories
from tests.receivers import receiving

pytestmark = pytest.mark.django_db


@pytest.fixture
def drained(monkeypatch):
    """Let a run end as the test says, and keep the ids it was given."""
    found = []

    def will(outcome):
        def drain(ids, **options):
            found.append(list(ids))
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        monkeypatch.setattr(worker, "drain", drain)
        return found

    return will


@pytest.fixture
def countdown(monkeypatch):
    """What Celery was asked to wait before the next try."""
    asked = []

    def apply_async(self, *args, **options):
        asked.append(self.options.get("countdown"))

    monkeypatch.setattr("celery.canvas.Signature.apply_async", apply_async)
    return asked


def run(*ids):
    """Run the task as a worker would."""
    tasks.deliver.push_request(
        args=(list(ids),), kwargs={}, called_directly=False, is_eager=False, retries=0
    )
    try:
        tasks.deliver.run(list(ids))
    finally:
        tasks.deliver.pop_request()


def test_ids_go_to_the_run(drained):
    found = drained(Drained())
    key = factories.event().pk

    tasks.deliver([str(key)])

    assert found == [[key]]


def test_a_retry_soon_is_celerys_with_the_moment_as_its_countdown(drained, countdown, monkeypatch):
    moment = datetime.now(UTC)
    monkeypatch.setattr(tasks.times, "now", lambda: moment)
    drained(Drained(attempts=1, next_in=30.0))

    with pytest.raises(Retry) as caught:
        run()

    assert isinstance(caught.value.exc, RetryLater)
    assert countdown == [30.0]


def test_a_retry_beyond_the_horizon_is_left_to_the_sweep(drained, countdown):
    drained(Drained(attempts=1, next_in=601.0))

    run()

    assert countdown == []


def test_a_fault_of_ours_is_repeated_with_celerys_backoff(drained, countdown):
    drained(OperationalError("gone"))

    with pytest.raises(Retry):
        run()

    # Jitter makes it anything from 0 to the first step.
    assert 0 <= countdown[0] <= 1


def test_an_eager_run_does_not_wait(settings):
    with receiving(500) as receiver:
        delivery = factories.delivery(receiver.url)
        Delivery.objects.update(due_at=datetime.now(UTC) - timedelta(seconds=1))
        tasks.deliver.apply(args=([str(delivery.pk)],))

    delivery.refresh_from_db()
    assert (delivery.attempts_made, delivery.status) == (1, "waiting")


def test_what_is_left_wakes_another_worker(drained, monkeypatch):
    sent = []
    monkeypatch.setattr(tasks, "hint", sent.append)
    drained(Drained(is_more_due=True))

    run()

    assert sent == [tasks.deliver]


class TestWake:
    """Telling a worker, without a word to the caller."""

    def test_it_is_told_in_the_background(self, monkeypatch):
        told = []
        monkeypatch.setattr(wakeups._waker, "wake", told.append)

        wakeups.wake(["a"])

        assert told == [["a"]]

    @pytest.mark.parametrize("how", ["celery", "override", "added", "changed"])
    def test_an_eager_project_delivers_at_once(self, how, monkeypatch):
        told, woken = [], []
        monkeypatch.setattr(tasks.deliver, "delay", told.append)
        monkeypatch.setattr(wakeups._waker, "wake", woken.append)
        name = "CELERY_TASK_ALWAYS_EAGER"
        with monkeypatch.context() as patch, ExitStack() as overrides:
            if how == "changed":
                patch.setattr(django_settings, name, False, raising=False)
            # Who is not eager is remembered; one override looks like the other.
            with override_settings(WEBHOOKS_HEALTH_FALL=4) if how == "override" else nullcontext():
                wakeups.wake(["a"])
            match how:
                case "celery":
                    patch.setitem(tasks.deliver.app.conf.changes, "task_always_eager", True)
                case "override":
                    overrides.enter_context(override_settings(**{name: True}))
                case _:
                    patch.setattr(django_settings, name, True, raising=False)
            wakeups.wake(["b"])
        wakeups.wake(["c"])

        assert told == [["b"]]
        assert woken == [["a"], ["c"]]

    def test_an_app_may_have_the_old_name_of_the_setting(self):
        """Celery looks at it where all names are old, and there is no namespace."""
        app = Celery("old", set_as_current=False)
        app.config_from_object({"CELERY_ALWAYS_EAGER": True})

        assert app.conf.task_always_eager
        assert Eagerness()(app)

    def test_who_is_not_eager_is_not_asked_again(self, monkeypatch):
        app, is_eager, asked = tasks.deliver.app, Eagerness(), []
        real = type(app.conf).__getattr__

        def look_up(conf, name):
            asked.append(name)
            return real(conf, name)

        monkeypatch.setattr(type(app.conf), "__getattr__", look_up)

        assert [is_eager(app) for _ in range(5)] == [False] * 5
        assert asked == ["task_always_eager"]

    def test_it_never_raises(self, monkeypatch, caplog):
        def fail(ids):
            raise RuntimeError("no thread")

        monkeypatch.setattr(wakeups._waker, "wake", fail)

        wakeups.wake(["a"])

        assert "No worker could be told" in caplog.text

    def test_a_message_holds_ids_and_nothing_else(self, monkeypatch):
        sent = []
        monkeypatch.setattr(
            tasks.deliver, "apply_async", lambda args, **options: sent.append((args, options))
        )

        wakeups._publish(["a", "b"])

        wakeups._publish([])

        assert sent == [((["a", "b"],), {"retry": False}), ((), {"retry": False})]

"""Nobody is left in silence, by real processes: mails of what was given up and of what is gone."""

from __future__ import annotations

import re
import time

import pytest

from tests.receivers import Answer

from .conftest import RABBITMQ, REDIS, SQLITE
from .harness import until
from .patience import PATIENT

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(300)]


@pytest.fixture
def mails(harness, tmp_path):
    """Return the texts of the mails that were sent, the first one first."""
    folder = tmp_path / "mails"
    harness.settings = {
        **PATIENT,
        "EMAIL_BACKEND": "django.core.mail.backends.filebased.EmailBackend",
        "EMAIL_FILE_PATH": str(folder),
        "MAILERS": {
            "default": {
                "BACKEND": "django.core.mail.backends.filebased.EmailBackend",
                "OPTIONS": {"file_path": str(folder)},
            }
        },
        "WEBHOOKS_NOTIFY": ["owner@example.com"],
        "WEBHOOKS_NOTIFY_OPERATORS": ["operators@example.com"],
        "WEBHOOKS_RETRY_ATTEMPTS": 1,
        # Each event is refused by itself: that is no outage of the endpoint.
        "WEBHOOKS_HEALTH_FALL": 10_000,
        "django_webhooks.policies.health.WINDOW_ATTEMPTS": 100_000,
    }

    def read() -> list[str]:
        files = sorted(folder.glob("*.log")) if folder.exists() else []
        return [text for one in files for text in one.read_text().split("-" * 79) if text.strip()]

    return read


def counted(texts):
    return sum(
        int(one) for text in texts for one in re.findall(r"(\d+) deliver\w+ w\w+ given", text)
    )


@pytest.mark.stacks(SQLITE, REDIS, RABBITMQ)
def test_many_given_up_are_few_mails_and_none_is_left_out(harness, receiver, mails):
    receiver.answers = [Answer(422)]
    interval = 4
    harness.settings["django_webhooks.sending.notifications.mails.INTERVAL_SECONDS"] = interval
    harness.subscribe(receiver.url)
    harness.worker()
    harness.beat()

    began = time.monotonic()
    harness.emit(200)

    until(lambda: harness.statuses() == {"given_up": 200}, "not all were given up")
    until(lambda: counted(mails()) == 200, "not all are told of")
    found = mails()
    assert len(found) <= 2 + (time.monotonic() - began) / interval
    assert all("To: owner@example.com" in one for one in found)
    assert all("http_422" in one and "replay" in one for one in found)
    (code, text) = health(harness)
    assert code == 1
    assert "200 deliveries were given up" in text


@pytest.mark.stacks(SQLITE, REDIS)
def test_a_worker_that_is_gone_is_noticed_by_the_command_and_told_once(harness, receiver, mails):
    harness.settings[
        "django_webhooks.sending.notifications.notifications.WATCHED_EVERY_SECONDS"
    ] = 2
    harness.subscribe(receiver.url)
    worker, beat = harness.worker(), harness.beat()
    harness.emit(1)
    until(lambda: harness.statuses() == {"succeeded": 1}, "it did not arrive")
    harness.stop(worker)
    harness.stop(beat)
    harness.emit(1)
    # An event waits on the one stack, and its delivery on the other.
    sentence = "no worker makes their deliveries"
    if not harness.database.startswith("sqlite"):
        harness.fan_out()
        sentence = "no worker takes them"
    let_it_be(harness, minutes_ago=0)
    assert health(harness)[0] == 0

    # That is too long for no worker, and not for one that is slow.
    let_it_be(harness, minutes_ago=2)
    for _ in range(2):
        code, text = health(harness, "--notify")
        assert code == 1
        assert "no_worker: " in text
        assert "no_beat: " in text
    [told] = mails()
    assert "To: operators@example.com" in told
    assert sentence in told

    harness.worker()
    harness.beat()
    until(lambda: len(mails()) == 2, "nobody is told that it is over")
    assert "well again" in mails()[1]
    # Beat of this site asks for no roll-ups.
    harness.python("from django_webhooks import tasks\ntasks.roll_up()")
    until(lambda: health(harness)[0] == 0, "it is not well")


def let_it_be(harness, *, minutes_ago):
    """Let all that waits, all that ran and the subscription date from a moment."""
    harness.python(
        "from datetime import timedelta\n"
        "from django_webhooks import times\n"
        "from django_webhooks.models import Delivery, Event, Subscription\n"
        "from django_webhooks.models.figures.heartbeat import Heartbeat\n"
        f"at = times.now() - timedelta(minutes={minutes_ago})\n"
        "Event.objects.waiting().update(created_at=at)\n"
        "Delivery.objects.waiting().update(due_at=at)\n"
        "Heartbeat.objects.update(at=at)\n"
        "Subscription.objects.update(created_at=at)\n"
    )


def health(harness, *arguments):
    """Run the command; return its exit status and what it prints."""
    return harness.python(
        "import io, json\n"
        "from django.core.management import call_command\n"
        "out, code = io.StringIO(), 0\n"
        "try:\n"
        f"    call_command('webhooks_health', *{list(arguments)!r}, stdout=out)\n"
        "except SystemExit as ended:\n"
        "    code = ended.code\n"
        "print(json.dumps([code, out.getvalue()]))\n"
    )

"""Runs that Celery's soft time limit ends, in real workers: no request is lost or repeated."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.receivers import Answer

from .conftest import MARIADB, REDIS
from .harness import until
from .patience import PATIENT

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(300), pytest.mark.stacks(REDIS, MARIADB)]
EVENTS = 40


def test_what_was_sent_before_a_soft_limit_is_not_sent_again(harness, receiver):
    receiver.answers = [Answer(204, delay=0.25)]
    harness.settings = {
        **PATIENT,
        "CELERY_TASK_ANNOTATIONS": {"django_webhooks.tasks.deliver": {"soft_time_limit": 1}},
        "WEBHOOKS_MAX_IN_FLIGHT": 4,
    }
    harness.subscribe(receiver.url)
    harness.emit(EVENTS)
    harness.worker(concurrency=1)
    harness.beat()
    log = harness.folder / "0-celery.log"

    until(lambda: harness.statuses() == {"succeeded": EVENTS}, "stuck")

    assert set(Counter(receiver.ids).values()) == {1}
    assert len(receiver.ids) == EVENTS
    assert "SoftTimeLimitExceeded" in log.read_text()

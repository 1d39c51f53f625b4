"""A project whose transactions are SERIALIZABLE: two workers and two savers at once."""

from __future__ import annotations

import threading

import pytest

from .conftest import RABBITMQ, REDIS
from .harness import until
from .patience import PATIENT

pytestmark = [pytest.mark.acceptance, pytest.mark.campaign, pytest.mark.timeout(300)]
RECIPE = """
from psycopg import IsolationLevel
DATABASES["default"].setdefault("OPTIONS", {})["isolation_level"] = IsolationLevel.SERIALIZABLE
"""
#: What conflicts is the project's own transaction, which it does again.
SAVE = """
from django.db import OperationalError, transaction
from django_webhooks.events import emit
from tests.acceptance.site.models import Thing
for number in range(300):
    while True:
        try:
            with transaction.atomic():
                thing = Thing.objects.create(name=str(number))
                emit("thing.created", {"id": thing.pk})
            break
        except OperationalError:
            pass
"""


@pytest.mark.stacks(REDIS, RABBITMQ)
def test_conflicts_of_workers_and_savers_repeat_no_request(harness, receiver):
    harness.recipe = RECIPE
    harness.settings = PATIENT
    harness.subscribe(receiver.url)
    harness.worker()
    harness.worker()
    harness.beat()

    savers = [threading.Thread(target=harness.python, args=(SAVE,)) for _ in range(2)]
    for one in savers:
        one.start()
    for one in savers:
        one.join()
    until(lambda: harness.statuses() == {"succeeded": 600}, "not all arrived", seconds=120)

    ids = [one.headers["webhook-id"] for one in receiver.requests]
    assert (len(ids), len(set(ids))) == (600, 600)

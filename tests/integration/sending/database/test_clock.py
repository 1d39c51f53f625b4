"""The clock that workers share."""

from __future__ import annotations

import pytest
from django.db import connection

from django_webhooks.sending.database import carried_on, clock
from django_webhooks.sending.database.clock import CARRIED_ON

pytestmark = pytest.mark.django_db


@pytest.fixture
def seconds(monkeypatch):
    """The monotonic clock of the process, to be moved."""
    now = [100.0]
    monkeypatch.setattr(clock.time, "monotonic", lambda: now[0])
    return now


def test_it_goes_on_with_the_process_and_asks_the_database_once(seconds, django_assert_num_queries):
    asks = 0 if connection.vendor == "sqlite" else 1
    with django_assert_num_queries(asks):
        first = carried_on(using="default")()
        seconds[0] += 7.5
        second = carried_on(using="default")()

    assert (second - first).total_seconds() == pytest.approx(7.5)


def test_it_is_read_again_after_a_while(seconds, monkeypatch):
    began = carried_on(using="default")()
    seconds[0] += CARRIED_ON

    # Meanwhile the database's clock was set: by the process it would be ten seconds later.
    read = carried_on(using="default")()

    assert (read - began).total_seconds() < 5

"""The rows that benchmarks begin with fit the tables as they are now."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection

from benchmarks import seed
from django_webhooks import times
from django_webhooks.models import Attempt, Delivery, Event
from tests import factories


@pytest.mark.django_db
@pytest.mark.skipif(connection.vendor != "postgresql", reason="is PostgreSQL's own SQL")
def test_a_benchmark_can_fill_its_database():
    factories.subscription()
    until = times.now()
    with connection.cursor() as cursor:
        seed.deliveries(cursor, 30, since=until - timedelta(days=1), until=until, waiting=3)

    assert (Event.objects.count(), Delivery.objects.count()) == (30, 30)
    assert Delivery.objects.waiting().count() == 3
    assert Attempt.objects.count() == 100

"""Hooks on fields that PostgreSQL alone has."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from django.db import connection

from django_webhooks import catalog
from django_webhooks.hooks import muted

from .conftest import hooked, told

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.skipif(connection.vendor != "postgresql", reason="fields of PostgreSQL"),
]
KEY = "018f3c7e-0000-7000-8000-000000000000"
VALUES = [
    pytest.param("decimals", ["1.5", Decimal("1E+2"), 3], ["1.50", "100.00", "3.00"], id="array"),
    pytest.param("nested", [[1, 2], ["3", 4]], [[1, 2], [3, 4]], id="array of arrays"),
    pytest.param(
        "moments", [datetime(2026, 1, 31, 12, tzinfo=UTC)], ["2026-01-31T12:00:00Z"], id="moments"
    ),
    pytest.param("uuids", [KEY, uuid.UUID(KEY)], [KEY, KEY], id="uuids"),
    pytest.param("decimals", [], [], id="empty array"),
    pytest.param(
        "integers", (1, 5), {"bounds": "[)", "lower": "1", "upper": "5"}, id="range of integers"
    ),
    pytest.param(
        "bigs", (2**40, None), {"bounds": "[)", "lower": str(2**40), "upper": None}, id="open"
    ),
    pytest.param(
        "numbers", (Decimal("1.5"), 2), {"bounds": "[)", "lower": "1.5", "upper": "2"}, id="decimal"
    ),
    pytest.param(
        "dates",
        (date(2026, 1, 1), date(2026, 2, 1)),
        {"bounds": "[)", "lower": "2026-01-01", "upper": "2026-02-01"},
        id="dates",
    ),
    pytest.param(
        "times",
        (datetime(2026, 1, 1, tzinfo=UTC), None),
        {"bounds": "[)", "lower": "2026-01-01T00:00:00+00:00", "upper": None},
        id="moments of a range",
    ),
    pytest.param("integers", (3, 3), {"empty": True}, id="empty range"),
]


def model():
    from tests.hosts.on_postgres.models import Ranged

    return Ranged


@pytest.mark.parametrize(("name", "value", "form"), VALUES)
def test_a_value_is_sent_in_one_form(listener, name, value, form):
    with hooked(model(), fields=[name]):
        thing = model().objects.create(**{name: value})
        thing.count += 1
        thing.save()
        fresh = model().objects.get()
        fresh.count += 1
        fresh.save(update_fields=["count"])
        fresh.delete()
        forms = [data[name] for _, data in told()]

    if isinstance(form, dict):
        # As Django's serializers do: the range as text.
        forms = [json.loads(one) for one in forms]
    assert forms == [form] * 4


@pytest.mark.parametrize(("name", "value", "form"), VALUES)
def test_a_save_of_nothing_tells_nothing_and_a_change_its_name(listener, name, value, form):
    with hooked(model()):
        with muted():
            made = model().objects.create(**{name: value})
        for thing in (made, model().objects.get()):
            thing.save()
        assert told() == []

        setattr(thing, name, None)
        thing.save()
        [(_, data)] = told()

    assert (data[name], data["changed"]) == (None, [name])


def test_schemas_say_arrays_of_arrays_and_nothing_of_ranges():
    with hooked(model()):
        properties = catalog.get("ranged.created").schema["properties"]

    assert properties["decimals"] == {"type": ["array", "null"], "items": {"type": "string"}}
    inner = {"type": "array", "items": {"type": "integer"}}
    assert properties["nested"] == {"type": ["array", "null"], "items": inner}
    assert properties["dates"] == {}

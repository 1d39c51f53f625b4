"""Management commands: what they print and what they remove."""

from __future__ import annotations

import io
import json
from datetime import date, timedelta

import pytest
from django.core.management import CommandError, call_command

from django_webhooks import catalog, times
from django_webhooks.models import Delivery
from tests import factories


@pytest.fixture(autouse=True)
def _one_event_type():
    catalog._types.clear()
    catalog.declare(
        "order.paid",
        description="An order\nwas paid.",
        schema={"type": "object"},
        example={"on": date(2026, 1, 31), "by": "Zoë"},
    )


def printed(*arguments: str) -> str:
    out = io.StringIO()
    call_command(*arguments, stdout=out)
    return out.getvalue()


def test_event_types_are_printed_as_a_table():
    catalog.declare("order.line.added")

    assert printed("webhooks_event_types").splitlines() == [
        "order.line.added",
        "order.paid        An order was paid.",
        "2 event types.",
    ]


def test_one_event_type_is_counted_as_one():
    assert printed("webhooks_event_types").endswith("\n1 event type.\n")


def test_an_empty_catalog_is_printed():
    catalog.forget("order.paid")

    assert printed("webhooks_event_types") == "0 event types.\n"
    assert json.loads(printed("webhooks_event_types", "--format", "json")) == []


def test_event_types_are_printed_as_json():
    assert json.loads(printed("webhooks_event_types", "--format", "json")) == [
        {
            "name": "order.paid",
            "description": "An order\nwas paid.",
            "schema": {"type": "object"},
            "example": {"on": "2026-01-31", "by": "Zoë"},
        }
    ]


def test_event_types_are_printed_as_markdown():
    catalog.declare("order.sent")

    text = printed("webhooks_event_types", "--format", "markdown")

    assert text.startswith(
        "# Event types\n\n## order.paid\n\nAn order\nwas paid.\n\nSchema of `data`"
    )
    assert '```json\n{\n  "on": "2026-01-31",\n  "by": "Zoë"\n}\n```' in text
    assert text.endswith("\n\n## order.sent\n")


def test_an_unknown_format_is_refused():
    with pytest.raises(CommandError, match="invalid choice"):
        printed("webhooks_event_types", "--format", "xml")


def finished(*, days_ago: int) -> Delivery:
    delivery = factories.delivery()
    Delivery.objects.filter(pk=delivery.pk).update(
        status="succeeded", due_at=None, finished_at=times.now() - timedelta(days=days_ago)
    )
    return delivery


@pytest.mark.django_db
def test_old_deliveries_are_removed():
    finished(days_ago=31)
    kept = finished(days_ago=29)

    assert printed("webhooks_prune") == "1 delivery and 0 received messages removed.\n"
    assert Delivery.objects.filter(status="succeeded").get() == kept


@pytest.mark.django_db
def test_a_dry_run_removes_nothing():
    finished(days_ago=31)
    finished(days_ago=32)

    assert (
        printed("webhooks_prune", "--dry-run")
        == "2 deliveries and 0 received messages would be removed.\n"
    )
    assert Delivery.objects.filter(status="succeeded").count() == 2


@pytest.mark.django_db
def test_pruning_stops_when_its_time_is_over():
    finished(days_ago=31)

    assert (
        printed("webhooks_prune", "--max-seconds", "0")
        == "0 deliveries and 0 received messages removed.\n"
    )

"""Bodies: serialised once, and clear errors for what cannot be."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal

import pytest
from django.utils.functional import lazystr
from django.utils.translation import gettext_lazy
from hypothesis import given
from hypothesis import strategies as st

from django_webhooks.exceptions import PayloadError, PayloadTooLarge
from django_webhooks.sending.wire import serialise

MOMENT = datetime(2026, 1, 31, 12, 0, 0, 123456, tzinfo=UTC)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"])), inner
    ),
)  # fmt: skip


def data_of(data):
    return json.loads(serialise("order.paid", data, recorded_at=MOMENT))["data"]


def test_the_envelope_is_type_timestamp_and_data():
    body = serialise("order.paid", {"id": 1, "name": "Zoë"}, recorded_at=MOMENT)

    assert (
        body
        == (
            '{"type":"order.paid","timestamp":"2026-01-31T12:00:00.123Z",'
            '"data":{"id":1,"name":"Zoë"}}'
        ).encode()
    )


def test_the_timestamp_is_utc():
    elsewhere = MOMENT.astimezone(timezone(timedelta(hours=5)))

    assert b'"2026-01-31T12:00:00.123Z"' in serialise("a", None, recorded_at=elsewhere)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (MOMENT, "2026-01-31T12:00:00.123Z"),
        (date(2026, 1, 31), "2026-01-31"),
        (time(12, 30), "12:30:00"),
        (timedelta(hours=1), "P0DT01H00M00S"),
        (Decimal("42.00"), "42.00"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (gettext_lazy("Yes"), "Yes"),
        (lazystr("lazy"), "lazy"),
        ("a\x00b", "a\x00b"),
    ],
)
def test_django_types_serialise_as_django_does(value, expected):
    assert data_of({"value": value}) == {"value": expected}


@pytest.mark.parametrize(
    ("data", "place"),
    [
        ({"a": {"b": [1, float("nan")]}}, "data.a.b[1]"),
        ({"a": float("inf")}, "data.a"),
        ({"a": Decimal("NaN")}, "data.a"),
        ({"a": object()}, "data.a"),
        ({"a": {1, 2}}, "data.a"),
        ({"a": b"bytes"}, "data.a"),
        ({"a": time(1, tzinfo=UTC)}, "data.a"),
        ({"a": {"\ud800": 1}}, "data.a (key '\\ud800')"),
        ({"a": "\ud800"}, "data.a"),
        ({(1, 2): 1}, "data (key (1, 2))"),
        (object(), "data "),
    ],
)
def test_what_cannot_be_sent_is_named_with_its_place(data, place):
    with pytest.raises(PayloadError) as caught:
        serialise("order.paid", data, recorded_at=MOMENT)

    assert str(caught.value).startswith(place)


def test_data_that_holds_itself_is_refused():
    data = {}
    data["self"] = data

    with pytest.raises(PayloadError, match="refers to itself"):
        serialise("order.paid", data, recorded_at=MOMENT)


def test_data_that_is_nested_too_deeply_is_refused():
    data = []
    for _ in range(100_000):
        data = [data]

    with pytest.raises(PayloadError, match="nested too deeply"):
        serialise("order.paid", data, recorded_at=MOMENT)


@pytest.mark.parametrize("depth", [100, 300, 450, 600, 800, 900])
def test_bad_data_far_down_is_a_payload_error_whatever_the_depth(depth):
    data = object()
    for _ in range(depth):
        data = [data]

    with pytest.raises(PayloadError):
        serialise("order.paid", data, recorded_at=MOMENT)


def test_keys_that_json_knows_are_sent_as_text():
    data = {1: "a", False: "b", None: "c", 1.5: "d"}

    assert data_of(data) == {"1": "a", "false": "b", "null": "c", "1.5": "d"}


def test_a_payload_error_is_a_value_error():
    assert issubclass(PayloadError, ValueError)


def test_the_size_is_limited(settings):
    settings.WEBHOOKS_MAX_PAYLOAD_BYTES = 120
    serialise("a", "x" * 50, recorded_at=MOMENT)

    with pytest.raises(PayloadTooLarge, match="120 of WEBHOOKS_MAX_PAYLOAD_BYTES"):
        serialise("a", "ü" * 50, recorded_at=MOMENT)


@given(json_values)
def test_json_comes_back_as_it_went(data):
    assert data_of(data) == data

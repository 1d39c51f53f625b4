"""Model hooks: values read the same before they are stored and after."""

from __future__ import annotations

import enum
import json
import types
from datetime import UTC, date, datetime, time
from decimal import Decimal

import pytest
from django.core.serializers.json import DjangoJSONEncoder
from django.db import models

from django_webhooks.hooks import values
from django_webhooks.sending import wire
from django_webhooks.testing import capture_webhooks
from tests.testapp.hooks import registered
from tests.testapp.models import Shop

pytestmark = pytest.mark.every_case


@pytest.mark.parametrize(
    ("field", "given", "stored"),
    [
        pytest.param(models.IntegerField(), "42", 42, id="text to number"),
        pytest.param(models.IntegerField(), None, None, id="nothing"),
        pytest.param(models.IntegerField(), "many", "many", id="no value of the field"),
        pytest.param(models.CharField(), 42, "42", id="number to text"),
        pytest.param(
            models.DecimalField(max_digits=5, decimal_places=2),
            "1.5",
            Decimal("1.50"),
            id="places",
        ),
        pytest.param(
            models.DecimalField(max_digits=40, decimal_places=2),
            Decimal("9" * 38),
            Decimal("9" * 38 + ".00"),
            id="many digits",
        ),
        pytest.param(models.DecimalField(), Decimal("1.5"), Decimal("1.5"), id="places unknown"),
    ],
)
def test_a_value_is_what_the_database_would_give_back(field, given, stored):
    plain = values.normalise(field, given)

    assert (plain, str(plain)) == (stored, str(stored))


def test_an_expression_stays_one():
    expression = models.F("stock")

    assert values.normalise(models.IntegerField(), expression) is expression


class Kind(enum.Enum):
    """An enumeration of a project."""

    ONE = 1
    DAY = date(2026, 1, 31)


class Foreign:
    """An object that nobody knows."""

    def __str__(self):
        return "foreign"


@pytest.mark.parametrize(
    ("value", "form"),
    [
        pytest.param(None, None, id="nothing"),
        pytest.param(True, True, id="a boolean"),
        pytest.param(float("inf"), "inf", id="infinity"),
        pytest.param(float("nan"), "nan", id="not a number"),
        pytest.param(Decimal("NaN"), "NaN", id="not a decimal"),
        pytest.param("half \ud800", "half ?", id="half a character"),
        pytest.param("ganz", "ganz", id="text"),
        pytest.param(Kind.ONE, 1, id="an enumeration"),
        pytest.param(Kind.DAY, "2026-01-31", id="an enumeration of dates"),
        pytest.param(time(12, tzinfo=UTC), "12:00:00+00:00", id="a time with an offset"),
        pytest.param(b"text", "dGV4dA==", id="bytes"),
        pytest.param(memoryview(b"text"), "dGV4dA==", id="a view of bytes"),
        pytest.param(Shop(pk=7), 7, id="an object"),
        pytest.param({Kind.ONE: {1.5: b""}}, {"1": {"1.5": ""}}, id="keys"),
        pytest.param({None: 1, True: 2}, {"null": 1, "true": 2}, id="keys that JSON knows"),
        pytest.param({"b", "a"}, ["a", "b"], id="a set"),
        pytest.param((1, [float("-inf")]), [1, ["-inf"]], id="lists"),
        pytest.param(Foreign(), "foreign", id="anything"),
        pytest.param([Foreign()], ["foreign"], id="a list of anything"),
    ],
)
def test_a_value_has_a_form_in_which_it_can_be_sent(value, form):
    body = wire.serialise("a.b", values.sendable(value), recorded_at=MOMENT)

    assert json.loads(body)["data"] == form


MOMENT = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.mark.django_db
def test_a_query_set_is_sent_by_the_keys_of_its_objects():
    shops = [Shop.objects.create(), Shop.objects.create()]

    assert values.sendable(Shop.objects.order_by("pk")) == [one.pk for one in shops]


class Broken(models.Field):
    """A field that cannot make texts of its values."""

    def value_to_string(self, obj):
        raise TypeError("no text")


def of(field, value):
    field.set_attributes_from_name("it")
    return values.of_field(field, types.SimpleNamespace(it=value))


def test_a_field_that_fails_to_make_a_text_is_sent_all_the_same():
    assert of(Broken(), Foreign()) == "foreign"


def test_an_expression_that_nobody_computed_is_sent_as_text():
    assert of(models.IntegerField(), models.F("stock")) == "F(stock)"


@pytest.mark.parametrize(
    ("encoder", "value", "form"),
    [
        pytest.param(DjangoJSONEncoder, {"a": [date(2026, 1, 31)]}, {"a": ["2026-01-31"]}, id="it"),
        pytest.param(DjangoJSONEncoder, {"a": Foreign()}, {"a": "foreign"}, id="cannot"),
        pytest.param(None, {"a": Foreign()}, {"a": "foreign"}, id="has none"),
    ],
)
def test_json_is_sent_as_its_encoder_says(encoder, value, form):
    assert of(models.JSONField(encoder=encoder), value) == form


def test_numbers_that_are_none_are_the_same():
    nan = float("nan")

    assert not values.differ(models.FloatField(), nan, float("nan"))
    assert values.differ(models.FloatField(), nan, 1.0)


class Vector:
    """Compares number by number, as arrays do."""

    def __init__(self, *numbers):
        self.numbers = numbers

    def __eq__(self, other):
        raise ValueError("The truth value of an array is ambiguous.")

    __hash__ = None


class VectorField(models.Field):
    """A field of these."""

    def get_prep_value(self, value):
        return value.numbers


class UnpreparedField(models.Field):
    """A field that cannot make columns of them."""

    def get_prep_value(self, value):
        raise TypeError("no column")


def test_values_that_do_not_compare_are_compared_by_their_columns():
    assert not values.differ(VectorField(), Vector(1, 2), Vector(1, 2))
    assert values.differ(VectorField(), Vector(1, 2), Vector(1, 3))
    assert values.differ(UnpreparedField(), Vector(1), Vector(1))


@pytest.mark.parametrize("value", ["1" * 20, Decimal("Infinity")], ids=str)
def test_a_decimal_that_does_not_fit_is_told_as_it_is(value):
    field = models.DecimalField(max_digits=5, decimal_places=2)

    assert str(values.normalise(field, Decimal(value))) in (value, f"{value}.00", "Infinity")


@pytest.mark.parametrize(
    "key", [None, 7, "k\x00", "k" * 300], ids=["none", "number", "NUL", "long"]
)
@pytest.mark.django_db
def test_an_ordering_key_of_a_hook_is_made_to_fit(key):
    expected = {None: "", 7: "7", "k\x00": "k"}
    with registered(Shop, ordering_key=lambda self, shop: key), capture_webhooks() as webhooks:
        Shop.objects.create()

    [event] = webhooks.events
    assert event.ordering_key == expected.get(key, event.ordering_key)
    assert len(event.ordering_key) <= 200

"""Model hooks: values read the same before they are stored and after."""

from __future__ import annotations

from decimal import Decimal

import pytest
from django.db import models

from django_webhooks.hooks import values


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
    plain = values.plain(field, given)

    assert (plain, str(plain)) == (stored, str(stored))


def test_an_expression_stays_one():
    expression = models.F("stock")

    assert values.plain(models.IntegerField(), expression) is expression

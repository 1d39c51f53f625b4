"""Conflicts of transactions: what is done again, how long, and after which pauses."""

from __future__ import annotations

import pytest
from django.db import IntegrityError, OperationalError

from django_webhooks.sending.database import conflicts

pytestmark = pytest.mark.django_db(transaction=True)


def error(*args, kind=OperationalError, **attributes):
    cause = type("DriverError", (Exception,), attributes)(*args)
    made = kind("refused")
    made.__cause__ = cause
    return made


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        pytest.param(error(sqlstate="40001"), True, id="serialization failure"),
        pytest.param(error(sqlstate="40P01"), True, id="deadlock"),
        pytest.param(error(pgcode="40001"), True, id="psycopg2"),
        pytest.param(error(1213, "Deadlock found"), True, id="MariaDB deadlock"),
        pytest.param(error(1205, "Lock wait timeout"), True, id="MariaDB lock wait"),
        pytest.param(error(1020, "Record has changed"), True, id="MariaDB snapshot"),
        pytest.param(error(2006, "gone away"), False, id="connection"),
        pytest.param(error(sqlstate="53300"), False, id="too many connections"),
        pytest.param(error(), False, id="says nothing"),
        pytest.param(OperationalError(), False, id="no cause"),
    ],
)
def test_what_is_done_again(raised, expected):
    assert conflicts.is_conflict(raised) is expected
    pauses, found = [], iter([raised])

    def step():
        for one in found:
            raise one
        return "done"

    if expected:
        assert conflicts.again(step, using="default", sleep=pauses.append) == "done"
    else:
        with pytest.raises(OperationalError):
            conflicts.again(step, using="default", sleep=pauses.append)
    assert len(pauses) == int(expected)


def test_it_is_not_done_again_for_ever():
    def step():
        raise error(sqlstate="40001")

    with pytest.raises(OperationalError):
        conflicts.again(step, using="default", sleep=lambda seconds: None, patience=0.0)


def test_a_transaction_of_the_caller_is_its_own_to_repeat():
    from django.db import transaction

    done = []

    def step():
        done.append(1)
        raise error(sqlstate="40001")

    with pytest.raises(OperationalError), transaction.atomic():
        conflicts.again(step, using="default")
    assert done == [1]


def test_another_error_is_none_of_its_business():
    def step():
        raise error(sqlstate="40001", kind=IntegrityError)

    with pytest.raises(IntegrityError):
        conflicts.again(step, using="default")


def test_pauses_grow_up_to_a_bound_and_differ():
    assert 0.005 <= conflicts.pause(0) <= 0.015
    assert 0.25 <= conflicts.pause(50) <= 0.75
    assert len({conflicts.pause(3) for _ in range(20)}) > 10

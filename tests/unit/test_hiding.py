"""Secrets show themselves in no repr, and errors leave without the variables that held them."""

from __future__ import annotations

import copy
import json
import pickle

import pytest

from django_webhooks.fields import UndecryptableText
from django_webhooks.hiding import (
    MASK,
    Secret,
    SecretDict,
    SecretText,
    forget_variables,
    hidden_value,
    hiding,
    without_secrets,
)

PLANTED = "planted"


def variables(error):
    """Return the variables of all frames of an error and its causes but the test's own, as text."""
    found, todo = [], [error]
    while todo:
        one = todo.pop()
        where = one.__traceback__
        while where is not None:
            if not where.tb_frame.f_code.co_name.startswith("test_"):
                found.append(repr(where.tb_frame.f_locals))
            where = where.tb_next
        todo += [cause for cause in (one.__cause__, one.__context__) if cause is not None]
    return " ".join(found)


def fail(secret):
    inner = secret + "!"
    raise ValueError(len(inner))


def fail_with_cause(secret):
    local = secret
    try:
        fail(local)
    except ValueError as error:
        raise RuntimeError("no") from error


def fail_in_handling(secret):
    try:
        fail(secret)
    except ValueError:
        fail(secret)


def fail_in_group(secret):
    errors = []
    for one in (fail, fail_with_cause):
        try:
            one(secret)
        except Exception as error:
            errors.append(error)
    raise ExceptionGroup("several", errors)


class TestHiding:
    @pytest.mark.parametrize("work", [fail, fail_with_cause, fail_in_handling, fail_in_group])
    @pytest.mark.parametrize("by_name", [True, False], ids=["by name", "by position"])
    def test_an_error_leaves_without_variables(self, work, by_name):
        with pytest.raises(Exception) as raised:  # noqa: PT011  # each its own
            hiding(work)(**{"secret": PLANTED}) if by_name else hiding(work)(PLANTED)

        assert PLANTED not in variables(raised.value)
        for one in getattr(raised.value, "exceptions", ()):
            assert PLANTED not in variables(one)

    def test_without_it_they_are_there(self):
        with pytest.raises(RuntimeError) as raised:
            fail_with_cause(PLANTED)

        assert PLANTED in variables(raised.value)

    def test_what_was_handled_before_keeps_its_variables(self):
        def handle():
            try:
                fail("of somebody else")
            except ValueError as before:
                with pytest.raises(ValueError, match="8"):
                    hiding(fail)(PLANTED)
                return before

        assert "of somebody else" in variables(handle())

    def test_names_and_lines_stay(self):
        with pytest.raises(ValueError, match="8") as raised:
            hiding(fail)(PLANTED)

        assert [one.name for one in raised.traceback][-1] == "fail"

    def test_a_result_is_returned_and_the_function_known(self):
        @hiding
        def double(number: int) -> int:
            """Double."""
            return number * 2

        assert (double(2), double.__name__, double.__doc__) == (4, "double", "Double.")

    def test_an_error_that_was_never_raised_is_taken(self):
        forget_variables(ValueError())


class TestMessages:
    def test_one_that_quotes_a_secret_is_masked(self):
        try:
            try:
                raise KeyError(PLANTED)
            except KeyError as cause:
                raise ValueError("no") from cause
        except ValueError as error:
            found = without_secrets(error, lambda text: text.replace(PLANTED, "…"))

        assert str(found) == "ValueError: no; caused by KeyError: '…'"
        assert found.__cause__ is None
        assert found.__context__ is None

    def test_others_stay_as_they_are(self):
        error = ValueError("no")

        assert without_secrets(error, str) is error


class TestValues:
    @pytest.mark.parametrize("show", [repr, str, "{}".format, "{!r:>20}".format, "%s".__mod__])
    def test_a_secret_shows_itself_to_nobody(self, show):
        assert PLANTED not in show(Secret(PLANTED))
        assert MASK in show(Secret(PLANTED))
        assert Secret(PLANTED).reveal() == PLANTED

    @pytest.mark.parametrize("make", [copy.copy, copy.deepcopy])
    def test_a_copy_of_a_secret_is_one(self, make):
        assert make(Secret(PLANTED)).reveal() == PLANTED
        assert PLANTED not in repr(make([Secret(PLANTED)]))

    def test_a_secret_is_not_pickled(self):
        with pytest.raises(TypeError, match="not pickled"):
            pickle.dumps(Secret(PLANTED))

    def test_a_text_is_the_text_but_for_its_repr(self):
        text = SecretText(PLANTED)

        assert (text, f"{text}", json.dumps(text)) == (PLANTED, PLANTED, json.dumps(PLANTED))
        assert {PLANTED: 1}[text] == 1
        assert PLANTED not in repr([text])
        assert PLANTED not in text.__sentry_repr__()
        assert PLANTED not in repr(copy.deepcopy({"url": text}))
        assert type(pickle.loads(pickle.dumps(text))) is SecretText

    def test_a_dictionary_shows_nothing_of_what_is_in_it(self):
        found = hidden_value({"X-Key": PLANTED, "n": 1, "deep": {"a": PLANTED}})

        assert type(found) is SecretDict
        assert found == {"X-Key": PLANTED, "n": 1, "deep": {"a": PLANTED}}
        assert PLANTED not in repr(found) + repr(list(found.values())) + found.__sentry_repr__()

    @pytest.mark.parametrize("value", ["", None, 5, UndecryptableText("wh1:x"), ["a"]])
    def test_other_values_are_left_as_they_are(self, value):
        assert hidden_value(value) is value

"""Reasons are closed lists of codes, each with a sentence for people."""

from __future__ import annotations

import copy
import pickle

import pytest

from django_webhooks.policies import health, reasons
from django_webhooks.policies.reasons import HttpReason, Reason, RejectionReason, SwitchReason

LISTS = [Reason, SwitchReason, RejectionReason]


@pytest.mark.parametrize("code", [one for codes in LISTS for one in codes])
def test_each_code_is_a_short_word_with_a_sentence(code):
    assert code.isascii()
    assert code.replace("_", "").isalpha()
    assert code == code.lower()
    assert len(code) <= 20
    assert code.help_text.endswith(".")
    assert reasons.help_text(str(code)) != ""


def test_each_reason_is_silence_or_our_fault_or_an_answer_or_of_a_delivery_alone():
    """One that is in no list would count as a refusal of the event."""
    of_deliveries = {
        Reason.EXPIRED,
        Reason.LOOP,
        Reason.SUBSCRIPTION_DELETED,
        Reason.CANCELLED,
    }
    lists = [health.NO_ANSWER, health.NOT_EVIDENCE, reasons.OF_ANSWERS, of_deliveries]

    assert {one: sum(one in known for known in lists) for one in Reason} == dict.fromkeys(Reason, 1)


@pytest.mark.parametrize("status", [100, 101, 200, 404, 503, 599, 600, 999])
def test_each_status_of_three_digits_is_a_reason(status):
    reason = reasons.parse(f"http_{status}")

    assert reason == HttpReason(status) == f"http_{status}"
    assert reason.status == status
    assert reasons.help_text(reason)


@pytest.mark.parametrize("status", [-1, 0, 99, 1000, 10**9])
def test_a_status_of_another_length_is_refused(status):
    with pytest.raises(ValueError, match="three digits"):
        HttpReason(status)


@pytest.mark.parametrize("reason", [HttpReason(503), Reason.TIMEOUT])
def test_a_reason_survives_copies_and_pickles(reason):
    again = pickle.loads(pickle.dumps(copy.deepcopy(reason)))

    assert again == reason
    assert type(again) is type(reason)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "by ann@example.com",
        "Timeout",
        "http_",
        "http_50",
        "http_5033",
        "http_²³¹",
        "http_503\n",
    ],
)
def test_what_is_no_code_is_refused_with_the_codes_there_are(text):
    with pytest.raises(ValueError, match="connect_timeout"):
        reasons.parse(text)
    assert reasons.help_text(text) == ""

"""What an answer means."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_webhooks.policies.health import StatusPolicy
from django_webhooks.policies.outcome import (
    Outcome,
    Verdict,
    of_answer,
    of_failure,
    parse_retry_after,
)

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
RETRY, FINAL, SUCCEEDED = Verdict.RETRY, Verdict.FINAL, Verdict.SUCCEEDED


@pytest.mark.parametrize(
    ("status", "verdict", "reason"),
    [
        (200, SUCCEEDED, ""),
        (202, SUCCEEDED, ""),
        (204, SUCCEEDED, ""),
        (299, SUCCEEDED, ""),
        (100, RETRY, "http_100"),
        (103, RETRY, "http_103"),
        (199, RETRY, "http_199"),
        (300, RETRY, "redirect"),
        (301, RETRY, "redirect"),
        (304, RETRY, "http_304"),
        (308, RETRY, "redirect"),
        (400, RETRY, "http_400"),
        (404, RETRY, "http_404"),
        (408, RETRY, "http_408"),
        (410, RETRY, "http_410"),
        (425, RETRY, "http_425"),
        (429, RETRY, "http_429"),
        (500, RETRY, "http_500"),
        (503, RETRY, "http_503"),
        (600, RETRY, "http_600"),
        (999, RETRY, "http_999"),
    ],
)
def test_the_status_decides(status, verdict, reason):
    outcome = of_answer(status, {}, now=NOW)

    assert (outcome.verdict, outcome.reason) == (verdict, reason)
    assert outcome.endpoint_gone == (status == 410)


def test_an_endpoint_that_is_gone_is_gone_whatever_it_says_of_our_clock():
    outcome = of_answer(410, {"webhook-rejected": "timestamp"}, now=NOW)

    assert (outcome.reason, outcome.endpoint_gone) == ("http_410", True)


@pytest.mark.parametrize("status", [400, 401, 404, 422])
def test_client_errors_are_final_where_the_subscription_says_so(status):
    assert of_answer(status, {}, now=NOW, client_errors_final=True).verdict is FINAL


@pytest.mark.parametrize("final", [True, False])
@pytest.mark.parametrize("statuses", StatusPolicy)
@pytest.mark.parametrize(
    "status", [200, 204, 101, 302, 304, 400, 401, 403, 404, 408, 410, 422, 425, 429, 500, 503, 600]
)
def test_what_no_other_endpoint_is_asked_because_of(status, statuses, final):
    outcome = of_answer(status, {}, now=NOW, client_errors_final=final, statuses=statuses)

    speaks_of_event = 300 <= status < 500 and status not in (410, 429)
    one_by_one = statuses is StatusPolicy.SERVER_ERRORS
    assert outcome.is_for_all == (speaks_of_event and one_by_one)
    assert outcome.endpoint_gone == (status == 410)
    if status == 410:
        # Final where there is no other endpoint.
        assert outcome.verdict is (FINAL if final else RETRY)


@pytest.mark.parametrize("status", [408, 425, 429, 500])
def test_temporary_errors_are_never_final_by_status(status):
    assert of_answer(status, {}, now=NOW, client_errors_final=True).verdict is RETRY


def test_a_receiver_can_ask_to_stop():
    outcome = of_answer(500, {"webhook-no-retry": "1"}, now=NOW)

    assert outcome == Outcome(verdict=FINAL, reason="receiver_refused", is_for_all=True)


@pytest.mark.parametrize("value", ["", "0", "true", "11"])
def test_only_a_1_asks_to_stop(value):
    assert of_answer(500, {"webhook-no-retry": value}, now=NOW).verdict is RETRY


def test_a_success_stays_one_whatever_its_headers_say():
    headers = {"webhook-no-retry": "1", "retry-after": "9"}

    assert of_answer(200, headers, now=NOW) == Outcome(verdict=SUCCEEDED)


def test_no_answer_is_worth_repeating():
    assert of_failure("timeout") == Outcome(verdict=RETRY, reason="timeout")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("120", 120),
        (" 7 ", 7),
        ("Sat, 31 Jan 2026 12:01:00 GMT", 60),
        ("Sat, 31 Jan 2026 12:01:00", 60),
    ],
)
def test_retry_after_is_seconds_or_a_date(text, seconds):
    assert parse_retry_after(text, now=NOW) == NOW + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "-1",
        "1.5",
        "1e9",
        "abc",
        "²³",
        "1, 2",
        "Fri, 30 Jan 2026 12:00:00 GMT",
        "Sat, 99 Jan 2026 12:00:00 GMT",
        "\x00",
    ],
)
def test_nonsense_and_the_past_are_ignored(text):
    assert parse_retry_after(text, now=NOW) is None


@pytest.mark.parametrize("text", ["9" * 10, "9" * 11, "9" * 10_000])
def test_endless_waits_are_understood_as_such(text):
    moment = parse_retry_after(text, now=NOW)

    assert moment is not None
    assert moment > NOW + timedelta(days=365 * 100)


def test_a_number_past_the_calendar_is_its_end():
    late = datetime(9999, 1, 1, tzinfo=UTC)

    assert parse_retry_after("9999999999", now=late) == datetime.max.replace(tzinfo=UTC)


@given(st.text())
def test_no_text_is_an_error(text):
    moment = parse_retry_after(text, now=NOW)

    assert moment is None or moment > NOW


class TestClock:
    """A signature that is refused for its time."""

    @staticmethod
    def answer(status, *, off=0.0, **headers):
        date = format_datetime(NOW + timedelta(seconds=off), usegmt=True)
        return of_answer(status, {"date": date, **headers}, now=NOW)

    @pytest.mark.parametrize("off", [-86_400, -360, -301, 301, 360, 86_400])
    @pytest.mark.parametrize("status", [400, 401, 403])
    def test_a_receiver_whose_clock_is_off_refuses_for_that(self, status, off):
        outcome = self.answer(status, off=off)

        assert (outcome.verdict, outcome.reason) == (RETRY, "clock")

    @pytest.mark.parametrize("off", [-300, -1, 0, 1, 300])
    @pytest.mark.parametrize("status", [400, 401, 403])
    def test_one_whose_clock_is_right_refuses_for_something_else(self, status, off):
        assert self.answer(status, off=off).reason == f"http_{status}"

    @pytest.mark.parametrize("status", [302, 404, 410, 422, 429, 500, 503])
    def test_a_status_that_refuses_no_signature_is_the_reason_itself(self, status):
        expected = "redirect" if status == 302 else f"http_{status}"

        assert self.answer(status, off=3600).reason == expected

    @pytest.mark.parametrize("date", ["", "yesterday", "Sat, 99 Foo 2026", "0", "\x00"])
    def test_a_date_that_is_none_tells_nothing(self, date):
        assert self.answer(401, date=date).reason == "http_401"

    def test_a_receiver_of_ours_says_so(self):
        assert self.answer(401, **{"webhook-rejected": "timestamp"}).reason == "clock"
        assert self.answer(401, **{"webhook-rejected": "signature"}).reason == "http_401"

"""Arrivals: what is remembered of messages, and how they are shown, inert."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as some

from django_webhooks.management.listen_output import MAX_LINES, as_json, for_people, inert
from django_webhooks.receiving import observed_request as arrivals
from django_webhooks.receiving.observed_request import Arrival, Memory

HEADERS = {
    "webhook-attempt": "2",
    "webhook-max-attempts": "12",
    "webhook-retry-reason": "http_503",
    "webhook-endpoint-role": "backup",
    "webhook-failover-reason": "timeout",
}


def arrived(body=b'{"type":"order.paid","data":{"id":7}}', **changed):
    known = {"method": "POST", "path": "/", "message_id": "msg_1", "answer": "204", "at": 0.0}
    return Arrival(body=body, **known | changed)


class TestForPeople:
    def test_all_that_matters_is_shown(self):
        text = for_people(arrived(headers=HEADERS, times=3, is_repeat=True))

        first, *rest = text.splitlines()
        assert first.split("  ")[1:] == ["POST", "/", "verified, repeat", "order.paid", "msg_1"]
        assert [line.strip() for line in rest[:3]] == [
            "its message came 3 times, and was accepted before",
            "attempt 2 of 12, after http_503, at the backup endpoint (timeout)",
            "answered 204",
        ]
        assert '        "type": "order.paid",' in rest

    def test_a_form_is_shown_by_its_fields(self):
        form = {"content-type": "application/x-www-form-urlencoded"}
        command = arrived(b"command=%2Fweather&text=\x1b", headers=form)
        github = arrived(b"payload=%7B%22type%22%3A%22push%22%7D", headers=form)

        assert '        "command": "/weather",' in for_people(command).splitlines()
        assert json.loads(as_json(command))["payload"]["command"] == "/weather"
        assert json.loads(as_json(github))["event_type"] == "push"

    def test_a_message_that_failed_before_is_no_repeat(self):
        text = for_people(arrived(times=2))

        assert "came 2 times\n" in text
        assert "repeat" not in text

    def test_a_refusal_says_why(self):
        assert "refused" in for_people(arrived(refusal="No."))
        assert "\n    No.\n" in for_people(arrived(refusal="No."))

    def test_what_is_no_json_is_shown_as_text(self):
        assert "      payload=%7B" in for_people(arrived(b"payload=%7B"))
        assert "      \\x00\ufffd" in for_people(arrived(b"\0\xff"))

    def test_a_long_body_is_cut(self):
        text = for_people(arrived(json.dumps(list(range(1000))).encode()))

        assert text.count("\n") == MAX_LINES + 2
        assert text.endswith("more lines")
        assert len(for_people(arrived(b"x" * 1_000_000))) < 400

    def test_a_body_without_a_bottom_is_shown_as_text(self):
        assert "[[[[" in for_people(arrived(b"[" * 90_000))


class TestInert:
    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            ("plain größe 😀", "plain größe 😀"),
            ("\x1b[2J", "\\x1b[2J"),
            ("\x9b31m", "\\x9b31m"),
            ("a\r\nb\tc\x07\x08", "a\\r\\nb\\tc\\x07\\x08"),
            ("\u202egpj.exe", "\\u202egpj.exe"),
            ("\u2066\u200f\u061c\ufeff", "\\u2066\\u200f\\u061c\\ufeff"),
            ("\u2028\u0085", "\\u2028\\x85"),
            ("\ud800", "\\ud800"),
            ("x" * 300, "x" * 200 + "…"),
        ],
    )
    def test_what_a_terminal_would_act_on_is_written_out(self, text, shown):
        assert inert(text) == shown

    @given(
        text=some.text(max_size=60),
        body=some.one_of(some.binary(max_size=60), some.text(max_size=60).map(json.dumps)),
    )
    def test_nothing_that_a_stranger_sends_gets_through(self, text, body):
        body = body if isinstance(body, bytes) else body.encode()
        found = arrived(
            body,
            path=text,
            message_id=text,
            method=text,
            headers=dict.fromkeys([*HEADERS, "x-github-event"], text),
        )

        assert all(line.isprintable() for line in for_people(found).split("\n"))
        assert as_json(found).isascii()
        assert as_json(found).isprintable()


class TestAsJson:
    def test_it_is_one_object(self):
        found = json.loads(as_json(arrived(headers=HEADERS)))

        assert found == {
            "at": "1970-01-01T00:00:00.000+00:00",
            "method": "POST",
            "path": "/",
            "verdict": "verified",
            "refusal": "",
            "message_id": "msg_1",
            "times": 1,
            "is_repeat": False,
            "event_type": "order.paid",
            "attempt": 2,
            "max_attempts": 12,
            "retry_reason": "http_503",
            "endpoint_role": "backup",
            "failover_reason": "timeout",
            "answer": "204",
            "payload": {"type": "order.paid", "data": {"id": 7}},
            "body": None,
        }

    def test_what_is_no_json_is_a_text(self):
        found = json.loads(as_json(arrived(b"a=1", headers={"webhook-attempt": "9" * 99})))

        assert (found["payload"], found["body"], found["attempt"]) == (None, "a=1", None)

    def test_a_body_without_a_bottom_is_a_text(self):
        # Some Pythons write what they could read, some cannot.
        found = json.loads(as_json(arrived(b"[" * 90_000)))

        assert found["body"] == "[" * 90_000


def test_what_can_be_read_but_not_written_is_a_text(monkeypatch):
    """As it is with some depths of nesting in some versions of Python."""
    written = json.dumps

    def dumps(value, **options):
        if isinstance(value, list) or value["payload"] is not None:
            raise RecursionError
        return written(value, **options)

    monkeypatch.setattr(json, "dumps", dumps)

    assert "      [1]" in for_people(arrived(b"[1]"))
    assert json.loads(as_json(arrived(b"[1]")))["body"] == "[1]"


@pytest.mark.parametrize(
    ("headers", "body", "event_type"),
    [
        ({}, b'{"type":"order.paid"}', "order.paid"),
        ({"x-github-event": "push"}, b"{}", "push"),
        ({"x-shopify-topic": "orders/create"}, b"{}", "orders/create"),
        ({}, b'{"type":7}', ""),
        ({}, b"[]", ""),
        ({}, b"plain", ""),
    ],
)
def test_what_happened_is_read_from_where_senders_say_it(headers, body, event_type):
    assert arrived(body, headers=headers).event_type == event_type


def test_a_message_is_a_repeat_once_it_was_accepted(monkeypatch):
    monkeypatch.setattr(arrivals, "MAX_IDS", 2)
    memory = Memory()

    assert memory.note("a", is_accepted=False) == (1, False)
    assert memory.note("a", is_accepted=True) == (2, False)
    assert memory.note("a", is_accepted=False) == (3, True)
    assert memory.note("a", is_accepted=False) == (4, True)
    # Of the last ones only.
    memory.note("b", is_accepted=True)
    memory.note("c", is_accepted=True)
    assert memory.note("a", is_accepted=True) == (1, False)

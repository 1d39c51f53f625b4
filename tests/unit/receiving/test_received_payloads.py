"""What a received body says: JSON, forms, the JSON in forms, and what is neither."""

from __future__ import annotations

import pytest

from django_webhooks.exceptions import InvalidPayload, VerificationFailed
from django_webhooks.receiving import Message, parsing

FORM = "application/x-www-form-urlencoded"


def message(body, content_type=None, **headers):
    found = {} if content_type is None else {"content-type": content_type}
    return Message(scheme="x", id="1", body=body, headers=found | headers)


JSON_TYPES = [
    None,
    "",
    "application/json",
    "APPLICATION/JSON",
    "application/json; charset=utf-8",
    "application/json;charset=ISO-8859-1",
    "text/json",
    "application/cloudevents+json",
    "application/cloudevents-batch+json; charset=UTF-8",
    "application/vnd.api+json",
    "application/problem+JSON",
]


@pytest.mark.parametrize("content_type", JSON_TYPES)
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["bare", "byte order mark"])
def test_json_by_any_of_its_types(content_type, mark):
    found = message(mark + b'{"type": "order.paid", "name": "Zo\xc3\xab"}', content_type)

    assert found.payload == {"type": "order.paid", "name": "Zoë"}
    assert found.event_type == "order.paid"
    assert found.is_json


@pytest.mark.parametrize(
    ("kind", "types", "is_taken"),
    [
        ("application/json", ("application/json",), True),
        ("text/json", ("application/json",), True),
        ("application/cloudevents+json", ("application/json",), True),
        ("", ("application/json",), True),
        ("", (FORM,), False),
        ("", ("text/xml",), False),
        (FORM, ("application/json",), False),
        ("text/plain", ("application/json",), False),
        ("application/json5", ("application/json",), False),
        ("application/jsonp", ("application/json",), False),
        ("+json", ("application/json",), False),
        ("application/x+json", ("text/json",), False),
        ("text/json", ("text/json",), True),
        ("application/json, text/plain", ("application/json",), False),
    ],
)
def test_which_types_are_taken(kind, types, is_taken):
    assert parsing.is_taken(kind, types) is is_taken


FORMS = {
    "a command of Slack": (
        b"command=%2Fweather&text=94070+%26+more&empty=",
        {"command": "/weather", "text": "94070 & more", "empty": ""},
    ),
    "UTF-8": (b"name=Zo%C3%AB&%C3%BC=1", {"name": "Zoë", "ü": "1"}),
    "a name alone": (b"name&other=1", {"name": "", "other": "1"}),
    "ampersands in a row": (b"&&a=1&&b=2&", {"a": "1", "b": "2"}),
    "a sign of equality in a value": (b"a=b=c", {"a": "b=c"}),
    "a semicolon": (b"a=1;b=2", {"a": "1;b=2"}),
    "a percent sign": (b"a=100%&b=%zz", {"a": "100%", "b": "%zz"}),
    "nothing": (b"", {}),
}


@pytest.mark.parametrize(("body", "fields"), FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("content_type", [FORM, f"{FORM}; charset=UTF-8", FORM.upper()])
def test_the_fields_of_a_form(body, fields, content_type):
    assert message(body, content_type).payload.dict() == fields


def test_fields_that_come_several_times():
    payload = message(b"to=a&to=b", FORM).payload

    assert payload["to"] == "b"
    assert payload.getlist("to") == ["a", "b"]


def test_a_form_is_matched_as_a_mapping():
    match message(b"command=%2Fweather&text=x", FORM).payload:
        case {"command": command, "text": text}:
            assert (command, text) == ("/weather", "x")
        case _:
            pytest.fail("It is no mapping.")


def test_the_json_in_the_field_payload():
    body = b"payload=%7B%22type%22%3A%22block_actions%22%2C%22n%22%3A1.0%7D&other=1"

    assert message(body, FORM).payload == {"type": "block_actions", "n": 1.0}
    assert message(body, FORM).event_type == "block_actions"


MALFORMED = {
    "JSON in a form": (b'{"a": 1}\xff', FORM),
    "bytes beyond ASCII": ("name=Zoë".encode(), FORM),
    "no UTF-8": (b"name=%ff", FORM),
    "no UTF-8 in a name": (b"%ff=1", FORM),
    "no JSON in the field payload": (b"payload=hello", FORM),
    "an empty field payload": (b"payload=", FORM),
    "two fields payload": (b"payload=1&payload=2", FORM),
    "too many fields": (b"&".join([b"a=1"] * 1_001), FORM),
    "UTF-16": ('{"a": 1}'.encode("utf-16"), "application/json"),
    "Latin-1": ('{"a": "Zoë"}'.encode("latin-1"), "application/json; charset=ISO-8859-1"),
    "a form that says it is JSON": (b"a=1", "application/json"),
    "XML": (b"<a/>", "text/xml"),
    "files": (b"--x\r\n", "multipart/form-data; boundary=x"),
    "NaN": (b"[NaN]", None),
    "deeper than can be read": (b"[" * 100_000, None),
    "nothing": (b"", None),
}


@pytest.mark.parametrize(("body", "content_type"), MALFORMED.values(), ids=MALFORMED)
def test_what_is_malformed_has_an_error_of_its_own(body, content_type):
    found = message(body, content_type)

    with pytest.raises(InvalidPayload) as raised:
        _ = found.payload
    assert not isinstance(raised.value, VerificationFailed)
    assert isinstance(raised.value, ValueError)
    assert found.event_type == ""


@pytest.mark.parametrize("header", ["x-github-event", "x-shopify-topic", "ce-type"])
def test_a_header_says_what_happened(header):
    assert message(b'{"type": "other"}', **{header: "push"}).event_type == "push"


@pytest.mark.parametrize("body", [b"[]", b"1", b'{"type": 7}', b'{"type": null}', b"{}"])
def test_a_payload_that_says_no_type(body):
    assert message(body).event_type == ""

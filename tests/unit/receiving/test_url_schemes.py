"""Schemes that sign the URL, against the vectors that their senders publish."""

from __future__ import annotations

import base64
import hmac
import json
from urllib.parse import urlencode

import pytest

from django_webhooks.exceptions import TimestampRefused, VerificationFailed
from django_webhooks.receiving import (
    BodyHmac,
    HubSpot,
    MicrosoftGraph,
    Square,
    Token,
    Twilio,
    schemes,
)

FORM = "application/x-www-form-urlencoded"


def verify(scheme, *, secret, headers, body=b"", url, now=0.0):
    return scheme.verify(
        secrets=[secret], headers=headers, body=body, now=now, tolerance=300, method="POST", url=url
    )


# Source: twilio-python, tests/unit/test_request_validator.py.
TWILIO_URL = "https://mycompany.com/myapp.php?foo=1&bar=2"
TWILIO_FIELDS = {
    "CallSid": "CA1234567890ABCDE",
    "Digits": "1234",
    "From": "+14158675309",
    "To": "+18005551212",
    "Caller": "+14158675309",
}
TWILIO_BODY = b'{"property": "value", "boolean": true}'
BODY_HASH = "0a1ff7634d9ab3b95db5c9a2dfe9416e41502b283a80c7cf19632632f96e6620"
REPEATED = [
    ("Sid", "CA123"),
    ("SidAccount", "AC123"),
    ("Digits", "5678"),
    ("Digits", "1234"),
    ("Digits", "1234"),
]
TWILIO = {
    "fields": (TWILIO_URL, TWILIO_FIELDS, "RSOYDt4T1cUTdK1PDd93/VVr8B8="),
    "fields that come several times": (TWILIO_URL, REPEATED, "IK+Dwps556ElfBT0I3Rgjkr1wJU="),
    "a port that is not signed, https": (
        TWILIO_URL.replace(".com", ".com:1234"),
        TWILIO_FIELDS,
        "RSOYDt4T1cUTdK1PDd93/VVr8B8=",
    ),
    "a port that is signed, http": (
        TWILIO_URL.replace(".com", ".com:1234").replace("https", "http"),
        TWILIO_FIELDS,
        "Zmvh+3yNM1Phv2jhDCwEM3q5ebU=",
    ),
    "the port of https": (TWILIO_URL, TWILIO_FIELDS, "kvajT1Ptam85bY51eRf/AJRuM3w="),
    "the port of http": (
        TWILIO_URL.replace("https", "http"),
        TWILIO_FIELDS,
        "0ZXoZLH/DfblKGATFgpif+LLRf4=",
    ),
}


class TestTwilio:
    def ask(self, url, body, signature, *, kind=FORM, secret="12345"):
        headers = {"x-twilio-signature": signature, "content-type": kind}
        return verify(Twilio(), secret=secret, headers=headers, body=body, url=url)

    @pytest.mark.parametrize(("url", "fields", "signature"), TWILIO.values(), ids=TWILIO)
    def test_its_vectors(self, url, fields, signature):
        body = urlencode(fields).encode()

        assert self.ask(url, body, signature).payload["Digits" if fields is REPEATED else "To"]
        for wrong in ({"url": url + "x"}, {"body": body + b"&x=1"}, {"secret": "x"}):
            with pytest.raises(VerificationFailed):
                self.ask(**{"url": url, "body": body, "signature": signature} | wrong)

    def test_a_body_that_is_proven_by_its_hash(self):
        url = f"{TWILIO_URL}&bodySHA256={BODY_HASH}"
        signature = "a9nBmqA0ju/hNViExpshrM61xv4="

        message = self.ask(url, TWILIO_BODY, signature, kind="application/json")

        assert message.payload == {"property": "value", "boolean": True}
        for body, where in ((TWILIO_BODY + b" ", url), (TWILIO_BODY, TWILIO_URL)):
            with pytest.raises(VerificationFailed):
                self.ask(where, body, signature, kind="application/json")

    def test_without_a_body_the_url_alone_is_signed(self):
        signature = hmac.digest(b"12345", TWILIO_URL.encode(), "sha1")

        assert self.ask(TWILIO_URL, b"", base64.b64encode(signature).decode(), kind="").body == b""

    @pytest.mark.parametrize("url", ["https://[::1", "https://x:port/", "ftp://x/", ""])
    def test_a_url_that_is_none(self, url):
        with pytest.raises(VerificationFailed):
            self.ask(url, b"a=1", "AAAA")

    def test_a_form_that_is_malformed(self):
        with pytest.raises(VerificationFailed):
            self.ask(TWILIO_URL, b"a=%ff", "AAAA")

    def test_an_address_of_ipv6_with_a_port_and_without(self):
        for signed in ("https://[::1]:443/", "https://[::1]/"):
            signature = base64.b64encode(hmac.digest(b"12345", signed.encode() + b"a1", "sha1"))
            assert self.ask("https://[::1]/", b"a=1", signature.decode())


# Source: square-python-sdk, tests/integration/test_webhooks_helper.py.
SQUARE_BODY = (
    b'{"merchant_id":"MLEFBHHSJGVHD","type":"webhooks.test_notification",'
    b'"event_id":"ac3ac95b-f97d-458c-a6e6-18981597e05f",'
    b'"created_at":"2022-07-13T20:30:59.037339943Z",'
    b'"data":{"type":"webhooks","id":"bc368e64-01aa-407e-b46e-3231809b1129"}}'
)
SQUARE_URL = "https://webhook.site/679a4f3a-dcfa-49ee-bac5-9d0edad886b9"


class TestSquare:
    def ask(self, *, body=SQUARE_BODY, url=SQUARE_URL, secret="Ibxx_5AKakO-3qeNVR61Dw"):
        headers = {"x-square-hmacsha256-signature": "GF4YkrJgGBDZ9NIYbNXBnMzqb2HoL4RW/S6vkZ9/2N4="}
        return verify(Square(), secret=secret, headers=headers, body=body, url=url)

    def test_its_vector(self):
        message = self.ask()

        assert message.id == "ac3ac95b-f97d-458c-a6e6-18981597e05f"
        assert message.event_type == "webhooks.test_notification"

    @pytest.mark.parametrize(
        "wrong", [{"body": SQUARE_BODY + b" "}, {"url": SQUARE_URL[:-1]}, {"secret": "x"}]
    )
    def test_anything_else(self, wrong):
        with pytest.raises(VerificationFailed):
            self.ask(**wrong)


# Source: hubspot-api-python, tests/spec/utils/test_signature.py.
HUBSPOT_URL = "https://www.example.com/webhook_uri"
HUBSPOT_BODY = b"{'example_field':'example_value'}"
HUBSPOT_SECRET = "yyyyyyyy-yyyy-yyyy-yyyy-yyyyyyyyyyyy"
HUBSPOT_AT = 1_693_657_560.0


class TestHubSpot:
    def ask(
        self,
        *,
        body=HUBSPOT_BODY,
        url=HUBSPOT_URL,
        signature="K36dawei4A+QBNolUOqo7s91KQDWQ5MXZ/QufNYuk/Y=",
        at="1693657560000",
        now=HUBSPOT_AT,
    ):
        headers = {"x-hubspot-signature-v3": signature, "x-hubspot-request-timestamp": at}
        return verify(
            HubSpot(), secret=HUBSPOT_SECRET, headers=headers, body=body, url=url, now=now
        )

    def test_its_vector(self):
        assert self.ask().timestamp == HUBSPOT_AT

    @pytest.mark.parametrize(
        "wrong",
        [
            {"body": b"{}"},
            {"url": HUBSPOT_URL + "?"},
            {"at": "1693657560001"},
            {"at": ""},
            {"at": "1"},
            {"at": "²³²³"},
            {"at": "x693657560000"},
            {"at": "1693657560x00"},
        ],
    )
    def test_anything_else(self, wrong):
        with pytest.raises(VerificationFailed):
            self.ask(**wrong)

    @pytest.mark.parametrize("now", [HUBSPOT_AT - 301, HUBSPOT_AT + 301])
    def test_a_time_too_far_from_now(self, now):
        with pytest.raises(TimestampRefused):
            self.ask(now=now)

    def test_what_is_signed_is_decoded(self):
        url = "https://www.example.com/a%3ab%2F%40?x=%21%24%27%28%29%2A%2C%3B%20%C3%A9&y=%3F"
        signed = "https://www.example.com/a:b/@?x=!$'()*,;%20%C3%A9&y=?"
        made = hmac.digest(
            HUBSPOT_SECRET.encode(), f"POST{signed}{{}}1693657560000".encode(), "sha256"
        )

        assert self.ask(url=url, body=b"{}", signature=base64.b64encode(made).decode())


class TestBodyHmac:
    @pytest.mark.parametrize("algorithm", ["sha1", "sha256", "sha512"])
    @pytest.mark.parametrize("encoding", ["hex", "base64"])
    @pytest.mark.parametrize("prefix", ["", "sha="])
    def test_whatever_a_sender_writes(self, algorithm, encoding, prefix):
        scheme = BodyHmac(
            header="X-Sig", prefix=prefix, encoding=encoding, algorithm=algorithm, id_header="X-Id"
        )
        made = hmac.digest(b"key", b"{}", algorithm)
        text = made.hex() if encoding == "hex" else base64.b64encode(made).decode()
        ask = {"secrets": ["key"], "now": 0.0, "tolerance": 1}

        headers = {"x-sig": prefix + text, "x-id": "7"}
        assert scheme.verify(headers=headers, body=b"{}", **ask).id == "7"
        for wrong in (
            {"headers": headers, "body": b"{ }"},
            {"headers": headers | {"x-sig": f"x{prefix}{text}"}, "body": b"{}"},
            {"headers": {"x-sig": prefix + text}, "body": b"{}"},
            {"headers": {}, "body": b"{}"},
        ):
            with pytest.raises(VerificationFailed):
                scheme.verify(**wrong, **ask)

    @pytest.mark.parametrize(
        "wrong", [{"algorithm": "sha-256"}, {"algorithm": "shake_128"}, {"encoding": "base32"}]
    )
    def test_what_cannot_be_is_refused_where_it_is_written(self, wrong):
        with pytest.raises(ValueError, match=r"hashlib|hex or base64"):
            BodyHmac(header="X-Sig", **wrong)


@pytest.mark.parametrize("always_new", [False, True])
def test_the_same_words_are_a_repeat_or_another_message(always_new):
    made = hmac.digest(b"key", b'{"value": [{"clientState": "key"}]}', "sha256").hex()
    headers = {"x-sig": made, "authorization": "Bearer key"}
    for scheme in (
        BodyHmac(header="x-sig", always_new=always_new),
        Token(always_new=always_new),
        MicrosoftGraph(always_new=always_new),
    ):
        ids = {
            scheme.verify(
                secrets=["key"],
                headers=headers,
                body=b'{"value": [{"clientState": "key"}]}',
                now=0.0,
                tolerance=1,
            ).id
            for _ in range(3)
        }
        assert len(ids) == (3 if always_new else 1)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"[" * 100_000,
        b"7",
        b"[]",
        b'{"value": 7}',
        b'{"value": [7]}',
        b'{"value": []}',
        b'{"value": [{"clientState": null}]}',
        json.dumps({"value": [{"clientState": "\ud800"}]}).encode(),
    ],
)
def test_a_body_that_holds_no_client_state(body):
    with pytest.raises(VerificationFailed):
        MicrosoftGraph().verify(secrets=["key"], headers={}, body=body, now=0.0, tolerance=1)


class TestSeveralURLs:
    """A request whose sender may have written its URL in either of two ways."""

    def ask(self, *urls, now=HUBSPOT_AT, at=b"1693657560000"):
        body, signed = b"{}", b"POSThttps://x.example/a?{}" + at
        digest = hmac.digest(HUBSPOT_SECRET.encode(), signed, "sha256")
        return schemes.verify(
            HubSpot(),
            secrets=[HUBSPOT_SECRET],
            headers={
                "x-hubspot-signature-v3": base64.b64encode(digest).decode(),
                "x-hubspot-request-timestamp": at.decode(),
            },
            body=body,
            now=now,
            tolerance=300,
            method="POST",
            urls=lambda: urls,
        )

    def test_either_is_taken_and_they_have_one_id(self):
        known = self.ask("https://x.example/a?")

        assert self.ask("https://x.example/a", "https://x.example/a?").id == known.id

    def test_another_is_not(self):
        with pytest.raises(VerificationFailed):
            self.ask("https://x.example/a", "https://x.example/b?")

    def test_a_time_that_is_refused_stays_so(self):
        with pytest.raises(TimestampRefused):
            self.ask("https://x.example/a?", "https://x.example/a", now=HUBSPOT_AT + 301)
        with pytest.raises(TimestampRefused):
            self.ask("https://x.example/a", "https://x.example/a?", now=HUBSPOT_AT + 301)

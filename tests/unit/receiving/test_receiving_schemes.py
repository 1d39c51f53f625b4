"""Schemes: what real senders sign is taken, and whatever was changed on the way is not."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json

import pytest
import standardwebhooks
import stripe
import svix
from hypothesis import given
from hypothesis import strategies as some

from django_webhooks import signing
from django_webhooks.exceptions import InvalidPayload, TimestampRefused, VerificationFailed
from django_webhooks.receiving import (
    GitHub,
    Message,
    Shopify,
    Slack,
    StandardWebhooks,
    Stripe,
    Token,
)
from tests.senders import (
    BODY,
    NOW,
    OTHER,
    SCHEMES,
    SECRET,
    github,
    shopify,
    slack,
    standard,
    stripes,
    token,
)

TIMED = ["standard", "stripe", "slack"]
SIGNED = [name for name in SCHEMES if name != "token"]


def verify(scheme, headers, body=BODY, *, secrets=(SECRET,), now=NOW, tolerance=300) -> Message:
    return scheme.verify(secrets=secrets, headers=headers, body=body, now=now, tolerance=tolerance)


def refused(scheme, headers, body=BODY, **options) -> str:
    with pytest.raises(VerificationFailed) as raised:
        verify(scheme, headers, body, **options)
    return str(raised.value)


@pytest.mark.parametrize("name", SCHEMES)
class TestEach:
    def test_what_was_signed_is_taken(self, name):
        scheme, make, _ = SCHEMES[name]

        message = verify(scheme, make())

        assert message.scheme == name
        assert message.body == BODY
        assert message.id
        assert message.payload["id"] == "evt_1"

    def test_any_of_several_secrets_will_do(self, name):
        scheme, make, _ = SCHEMES[name]

        assert verify(scheme, make(), secrets=[OTHER, SECRET])
        assert verify(scheme, make(), secrets=[SECRET, OTHER])

    def test_another_secret_is_refused(self, name):
        scheme, make, _ = SCHEMES[name]

        assert SECRET not in refused(scheme, make(secret=OTHER))

    def test_without_any_secret_nobody_comes_in(self, name):
        scheme, make, _ = SCHEMES[name]

        refused(scheme, make(), secrets=[])

    def test_a_missing_or_empty_proof_is_refused(self, name):
        scheme, make, proof = SCHEMES[name]
        headers = make()

        for wrong in ({}, headers | {proof: ""}, headers | {proof: " "}):
            refused(scheme, wrong)
        refused(scheme, {key: value for key, value in headers.items() if key != proof})

    def test_a_cut_or_doubled_proof_is_refused(self, name):
        scheme, make, proof = SCHEMES[name]
        headers = make()
        value = headers[proof].partition(",v0")[0]
        # Twice the same is one of several for Stripe, whose header is a list.
        doubled = [] if name == "stripe" else [f"{value}{value}"]

        for wrong in (value[:-1], value[:-7], value[1:], value + "x", *doubled):
            refused(scheme, headers | {proof: wrong})

    @pytest.mark.parametrize(
        "wrong", ["é" * 64, "\x00", "sha256=", "v0=", "v1,", "t=,v1=", "Bearer "]
    )
    def test_a_proof_that_is_none_is_refused(self, name, wrong):
        scheme, make, proof = SCHEMES[name]

        refused(scheme, make() | {proof: wrong})

    @given(text=some.text(max_size=80), other=some.text(max_size=40), body=some.binary(max_size=80))
    def test_nothing_but_the_documented_error(self, name, text, other, body):
        scheme, make, proof = SCHEMES[name]
        headers = make() | {proof: text}
        for key in headers.keys() - {proof}:
            headers[key] = other

        refused(scheme, headers, body)


@pytest.mark.parametrize("name", SIGNED)
@pytest.mark.parametrize(
    "body",
    [
        BODY[:-1],
        BODY + b" ",
        BODY.replace(b"19.90", b"19.91"),
        json.dumps(json.loads(BODY)).encode(),
        b"\xef\xbb\xbf" + BODY,
        BODY.decode().encode("utf-16"),
        b"",
    ],
    ids=["cut", "longer", "a byte", "serialised again", "BOM", "charset", "empty"],
)
def test_a_body_that_was_changed_is_refused(name, body):
    scheme, make, _ = SCHEMES[name]

    refused(scheme, make(), body)


@pytest.mark.parametrize("name", TIMED)
class TestTime:
    @pytest.mark.parametrize("off", [-300, 0, 300])
    def test_within_the_tolerance_it_is_taken(self, name, off):
        scheme, make, _ = SCHEMES[name]

        assert verify(scheme, make(at=NOW + off)).timestamp == NOW + off

    @pytest.mark.parametrize("off", [-301, 301, -NOW, 10**11])
    def test_outside_it_is_refused(self, name, off):
        scheme, make, _ = SCHEMES[name]

        refused(scheme, make(at=NOW + off))

    @pytest.mark.parametrize("off", [-3600, -360, 360, 3600])
    def test_how_far_a_clock_is_off_is_told_to_who_knows_the_secret(self, name, off):
        scheme, make, _ = SCHEMES[name]

        with pytest.raises(TimestampRefused, match=f"{abs(off)} seconds") as raised:
            verify(scheme, make(at=NOW + off))
        assert raised.value.offset == off
        assert ("ahead of" in str(raised.value)) == (off > 0)

    @pytest.mark.parametrize("off", [-3600, -360, 360, 3600])
    def test_who_does_not_know_the_secret_learns_nothing_of_the_clock(self, name, off):
        scheme, make, _ = SCHEMES[name]

        with pytest.raises(VerificationFailed) as raised:
            verify(scheme, make(at=NOW + off), BODY + b" ")
        assert type(raised.value) is VerificationFailed
        assert "clock" not in str(raised.value)

    @pytest.mark.parametrize("text", ["-1", "1e9", "²³", "9" * 40, "hello", "1700000000.5", "0x10"])
    def test_what_is_no_number_of_seconds_is_refused(self, name, text):
        scheme, make, _ = SCHEMES[name]
        headers = make()
        for key, value in headers.items():
            headers[key] = value.replace(str(NOW), text)

        refused(scheme, headers)

    def test_a_timestamp_of_another_time_does_not_fit_the_signature(self, name):
        scheme, make, _ = SCHEMES[name]
        headers = make()
        for key, value in headers.items():
            headers[key] = value.replace(str(NOW), str(NOW + 1))

        refused(scheme, headers)


class TestConfusion:
    """Proofs of one version or scheme in the clothes of another."""

    @pytest.mark.parametrize(
        ("name", "old", "new"),
        [
            ("standard", "v1,", "v2,"),
            ("standard", "v1,", "v1a,"),
            ("github", "sha256=", "sha1="),
            ("github", "sha256=", ""),
            ("stripe", "v1=", "v0="),
            ("slack", "v0=", "v1="),
            ("token", "Bearer ", "Basic "),
            ("token", "Bearer ", ""),
        ],
    )
    def test_another_version(self, name, old, new):
        scheme, make, proof = SCHEMES[name]
        headers = make()

        refused(scheme, headers | {proof: headers[proof].replace(old, new)})

    def test_a_public_key_is_no_shared_secret(self):
        pair = signing.generate_key_pair()
        public = signing.public_key(pair)
        forged = hmac.digest(public.encode(), b"msg_1." + str(NOW).encode() + b"." + BODY, "sha256")
        headers = standard() | {"webhook-signature": "v1," + base64.b64encode(forged).decode()}

        refused(StandardWebhooks(), headers, secrets=[public])
        assert verify(StandardWebhooks(), standard(secret=pair), secrets=[public])

    def test_one_of_several_signatures_suffices_in_any_place(self):
        good = standard()["webhook-signature"]
        bad = "v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc="

        for value in (f"{good} {bad}", f"{bad} {good}", f"v9,xx {bad} {good}"):
            assert verify(StandardWebhooks(), standard() | {"webhook-signature": value})

    def test_an_id_with_a_dot_moves_no_border(self):
        headers = standard() | {"webhook-id": f"msg_1.{NOW}", "webhook-timestamp": str(NOW)}

        refused(StandardWebhooks(), headers)

    def test_bytes_cannot_move_between_id_timestamp_and_body(self):
        # All three of these would be signed alike.
        body = f"{NOW}.5".encode()
        at_home = standard(body)
        moved = at_home | {"webhook-id": f"msg_1.{NOW}", "webhook-timestamp": str(NOW)}

        assert verify(StandardWebhooks(), at_home, body)
        assert "dot" in refused(StandardWebhooks(), moved, b"5")

    def test_a_timestamp_is_written_in_one_way(self):
        headers = standard() | {"webhook-timestamp": f"0{NOW}"}

        assert "zero" in refused(StandardWebhooks(), headers)

    def test_two_timestamps_of_stripe(self):
        value = stripes()["stripe-signature"]

        refused(Stripe(), {"stripe-signature": f"t={NOW + 9},{value}"})

    def test_an_empty_token_is_no_token(self):
        refused(Token(prefix=""), {"authorization": " "}, secrets=[""])
        refused(Token(), {"authorization": "Bearer "}, secrets=["", "x"])

    @pytest.mark.parametrize("message_id", ["x" * 201, "a\nb", "é", "\x1b[31m"])
    def test_an_id_that_cannot_be_kept_is_refused(self, message_id):
        refused(GitHub(), github() | {"x-github-delivery": message_id})

    @pytest.mark.parametrize("body", [b"[]", b'{"id": 7}', b"plain", b'{"id": ""}'])
    def test_an_event_of_stripe_without_an_id_is_refused(self, body):
        refused(Stripe(), stripes(body), body)


PUBLISHED = {
    "first": (SECRET, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'),
    "second": (
        OTHER,
        "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
        1649367553,
        b'{"email":"test@example.com","username":"test_user"}',
    ),
    "long": (SECRET, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b"a" * 1_048_576),
    "public": (
        "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=",
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
    ),
}
GOOD = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
BAD = "v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc="


@pytest.mark.parametrize(
    ("which", "signature", "holds"),
    [
        ("first", GOOD, True),
        ("second", "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=", True),
        ("long", "v1,txpEUxqWZJ5nteTnymUVa+7C4NHpBeXJ6CsBAW0c3/A=", True),
        (
            "public",
            "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPC"
            "Xe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==",
            True,
        ),
        ("first", f"{BAD} v2,{BAD[3:]} {GOOD} {BAD}", True),
        ("first", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OA=", False),
        ("first", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLawdd", False),
        ("first", f"v2,{GOOD[3:]}", False),
    ],
)
def test_the_published_vectors_of_standard_webhooks(which, signature, holds):
    secret, message_id, at, body = PUBLISHED[which]
    headers = {
        "webhook-id": message_id,
        "webhook-timestamp": str(at),
        "webhook-signature": signature,
    }

    if holds:
        assert verify(StandardWebhooks(), headers, body, secrets=[secret], now=at).id == message_id
    else:
        refused(StandardWebhooks(), headers, body, secrets=[secret], now=at)


class TestSenders:
    """What the senders' own libraries and documents say."""

    @pytest.mark.parametrize("library", [standardwebhooks, svix], ids=["standardwebhooks", "svix"])
    def test_standard_webhooks(self, library):
        from datetime import UTC, datetime

        at = datetime.fromtimestamp(NOW, UTC).replace(tzinfo=None)
        if library is svix:
            at = datetime.fromtimestamp(NOW, UTC)
        made = library.Webhook(SECRET).sign("msg_1", at.replace(tzinfo=UTC), BODY.decode())

        assert verify(StandardWebhooks(), standard() | {"webhook-signature": made}).id == "msg_1"

    def test_svix_under_its_own_names(self):
        ours = standard()
        headers = {name.replace("webhook-", "svix-"): value for name, value in ours.items()}

        assert verify(StandardWebhooks(), headers).id == "msg_1"
        # Never a part of the one and a part of the other.
        refused(StandardWebhooks(), headers | {"webhook-signature": "v1,AAAA"})
        refused(StandardWebhooks(), ours | {"webhook-id": ""} | {"svix-id": "msg_1"})
        refused(StandardWebhooks(), headers | {"svix-id": "", "webhook-id": "msg_1"})

    def test_stripe(self):
        signed = f"{NOW}.{BODY.decode()}"
        made = stripe.WebhookSignature._compute_signature(signed, SECRET)

        message = verify(Stripe(), {"stripe-signature": f"t={NOW},v1={made}"})

        assert message.id == "evt_1"
        assert stripe.WebhookSignature.verify_header(
            BODY.decode(), stripes()["stripe-signature"], SECRET, tolerance=None
        )

    def test_githubs_example(self):
        headers = {
            "x-hub-signature-256": "sha256="
            "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
            "x-github-delivery": "1",
        }

        assert verify(GitHub(), headers, b"Hello, World!", secrets=["It's a Secret to Everybody"])

    def test_slacks_example(self):
        body = (
            b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow"
            b"&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner"
            b"&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com"
            b"%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN"
            b"&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
        )
        headers = {
            "x-slack-request-timestamp": "1531420618",
            "x-slack-signature": "v0="
            "a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
        }
        secret = "8f742231b10e8888abcd99yyyzzz85a5"

        message = verify(Slack(), headers, body, secrets=[secret], now=1531420618)

        assert len(message.id) == 64
        refused(Slack(), headers, body, secrets=[secret], now=1531420618 + 301)

    def test_an_event_of_slack_has_its_own_id(self):
        body = b'{"event_id":"Ev08MFMKH6"}'

        assert verify(Slack(), slack(body), body).id == "Ev08MFMKH6"


class TestPayload:
    @pytest.mark.parametrize("body", [b"\xff", b"{", b"NaN", b"[" * 100_000, b""])
    def test_what_is_no_json_is_refused(self, body):
        with pytest.raises(InvalidPayload, match="not JSON"):
            _ = Message(scheme="token", id="1", body=body).payload

    def test_headers_are_not_in_its_repr(self):
        assert SECRET not in repr(verify(Token(), token()))


def test_a_token_may_have_an_id_of_its_own():
    scheme = Token(header="X-Key", prefix="", id_header="X-Id")

    assert verify(scheme, {"x-key": SECRET, "x-id": "7"}).id == "7"
    assert "x-id" in refused(scheme, {"x-key": SECRET})


@pytest.mark.parametrize(
    ("scheme", "make", "id_header"),
    [
        (GitHub(id_from_body=True), github, "x-github-delivery"),
        (Shopify(id_from_body=True), shopify, "x-shopify-webhook-id"),
    ],
    ids=["github", "shopify"],
)
def test_an_id_from_the_body_is_that_of_a_repeat_under_another_id(scheme, make, id_header):
    ids = {verify(scheme, make() | {id_header: one}).id for one in ("1", "2", "x" * 999)}

    assert ids == {hashlib.sha256(BODY).hexdigest()}
    assert verify(scheme, make(b"{}"), b"{}").id not in ids
    refused(scheme, make(secret=OTHER))


@pytest.mark.parametrize("name", SIGNED)
def test_a_signature_is_no_credential(name):
    assert SCHEMES[name][0].credential_headers == ()


def test_a_token_is_a_credential_in_whichever_header_it_comes():
    assert Token().credential_headers == ("authorization",)
    assert Token(header="X-Key").credential_headers == ("x-key",)

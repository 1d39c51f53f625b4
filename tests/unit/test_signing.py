"""Signatures against published vectors and an independent implementation."""

from __future__ import annotations

import base64
import os
from datetime import UTC, datetime

import pytest
import standardwebhooks
from django.core.exceptions import SuspiciousOperation
from hypothesis import given
from hypothesis import strategies as st

from django_webhooks import signing
from django_webhooks.exceptions import InvalidSecret, VerificationFailed

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
TIMESTAMP = 1614265330
BODY = b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
WRONG = "v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc="


def headers(signature=SIGNATURE, *, message_id=ID, timestamp=str(TIMESTAMP)):
    return {
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": signature,
    }


def verify(found, *, secrets=(SECRET,), body=BODY, now=TIMESTAMP):
    signing.verify(secrets=secrets, headers=found, body=body, now=now)


@pytest.mark.parametrize(
    ("secret", "message_id", "timestamp", "body", "expected"),
    [
        pytest.param(SECRET, ID, TIMESTAMP, BODY, SIGNATURE, id="specification"),
        pytest.param(
            "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
            "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
            1649367553,
            b'{"email":"test@example.com","username":"test_user"}',
            "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
            id="second secret",
        ),
        pytest.param(
            SECRET,
            ID,
            TIMESTAMP,
            b"a" * 1_048_576,
            "v1,txpEUxqWZJ5nteTnymUVa+7C4NHpBeXJ6CsBAW0c3/A=",
            id="one mebibyte",
        ),
    ],
)
def test_published_vectors_hold(secret, message_id, timestamp, body, expected):
    made = signing.sign(secret=secret, message_id=message_id, timestamp=timestamp, body=body)

    assert made == expected


@pytest.mark.parametrize(
    "signature",
    [
        SIGNATURE,
        f"{WRONG} v2,{WRONG[3:]} {SIGNATURE} {WRONG}",
        f"v1a,{SIGNATURE[3:]} {SIGNATURE}",
    ],
)
def test_one_good_signature_suffices(signature):
    verify(headers(signature))


@pytest.mark.parametrize(
    "signature",
    [
        "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OA=",
        "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLawdd",
        f"v2,{SIGNATURE[3:]}",
        WRONG,
        "v1",
        "v1,",
        ",",
        "v1,ü",
        SIGNATURE[3:],
    ],
)
def test_a_wrong_signature_fails(signature):
    with pytest.raises(VerificationFailed):
        verify(headers(signature))


def test_a_flood_of_signatures_is_not_looked_at():
    verify(headers(" ".join([*[WRONG] * 31, SIGNATURE])))

    with pytest.raises(VerificationFailed, match="more than 32"):
        verify(headers(" ".join([*[WRONG] * 32, SIGNATURE])))


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_each_header_is_needed(name):
    found = headers()
    del found[name]

    with pytest.raises(VerificationFailed, match=name):
        verify(found)


@pytest.mark.parametrize("off", [-300, 0, 300])
def test_clocks_may_differ_by_five_minutes(off):
    verify(headers(), now=TIMESTAMP + off)


@pytest.mark.parametrize("off", [-301, 301, 10**9])
def test_older_and_newer_requests_fail(off):
    with pytest.raises(VerificationFailed, match="clock"):
        verify(headers(), now=TIMESTAMP + off)


@pytest.mark.parametrize("timestamp", ["hello", "-5", "1.5", "²", "9" * 400, " 1614265330"])
def test_a_timestamp_that_is_none_fails(timestamp):
    with pytest.raises(VerificationFailed):
        verify(headers(timestamp=timestamp))


def test_headers_may_be_written_in_title_case():
    verify({name.title(): value for name, value in headers().items()})


def test_any_of_several_secrets_serves():
    verify(headers(), secrets=[signing.generate_secret(), SECRET])


def test_another_body_fails():
    with pytest.raises(VerificationFailed):
        verify(headers(), body=BODY + b" ")


def test_a_failure_is_answered_400_by_django():
    assert issubclass(VerificationFailed, SuspiciousOperation)


def test_a_secret_without_its_prefix_is_accepted():
    verify(headers(), secrets=[SECRET.removeprefix("whsec_")])


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "whsec_",
        "whsec_%",
        f"hwsec_{SECRET[6:]}",
        "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=",
        "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=",
        "whsec_" + base64.b64encode(b"x" * 23).decode(),
        "whsec_" + base64.b64encode(b"x" * 65).decode(),
    ],
)
def test_malformed_secrets_are_refused(secret):
    with pytest.raises(InvalidSecret):
        signing.key_bytes(secret)


@given(st.text(), st.text(), st.text())
def test_nothing_in_the_headers_is_another_error(message_id, timestamp, signature):
    with pytest.raises(VerificationFailed):
        verify(headers(signature, message_id=message_id, timestamp=timestamp))


@pytest.mark.parametrize("message_id", ["\ud800", "", "msg_\x00"])
def test_an_id_that_nobody_signed_fails_like_any_other(message_id):
    with pytest.raises(VerificationFailed):
        verify(headers(message_id=message_id))


def test_the_independent_implementation_refuses_another_secret():
    timestamp = int(datetime.now(UTC).timestamp())
    made = signing.sign(secret=SECRET, message_id=ID, timestamp=timestamp, body=BODY)

    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(signing.generate_secret()).verify(
            BODY, headers(made, timestamp=str(timestamp))
        )


def test_the_independent_implementation_accepts_ours():
    secret, body = signing.generate_secret(), os.urandom(50).hex().encode()
    timestamp = int(datetime.now(UTC).timestamp())
    made = signing.sign(secret=secret, message_id=ID, timestamp=timestamp, body=b'"%s"' % body)

    standardwebhooks.Webhook(secret).verify(b'"%s"' % body, headers(made, timestamp=str(timestamp)))


def test_we_accept_the_independent_implementation():
    secret, now = signing.generate_secret(), datetime.now(UTC)
    made = standardwebhooks.Webhook(secret).sign(ID, now, BODY.decode())

    verify(
        headers(made, timestamp=str(int(now.timestamp()))),
        secrets=[secret],
        now=now.timestamp(),
    )


class TestAsymmetric:
    """v1a: Ed25519, verified with what the sender publishes."""

    PRIVATE = (
        "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCub"
        "MbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="
    )
    PUBLIC = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4="
    SIGNATURE = (
        "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPC"
        "Xe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg=="
    )

    def test_the_published_vector_holds(self):
        made = signing.sign(secret=self.PRIVATE, message_id=ID, timestamp=TIMESTAMP, body=BODY)

        assert made == self.SIGNATURE

    @pytest.mark.parametrize("secret", [PUBLIC, PRIVATE])
    def test_either_half_verifies(self, secret):
        verify(headers(f"{WRONG} {self.SIGNATURE}"), secrets=[SECRET, secret])

    def test_another_body_fails(self):
        with pytest.raises(VerificationFailed):
            verify(headers(self.SIGNATURE), secrets=[self.PUBLIC], body=BODY + b" ")

    def test_a_version_is_not_taken_for_another(self):
        for signature, secret in [
            (SIGNATURE.replace("v1,", "v1a,"), self.PUBLIC),
            (self.SIGNATURE.replace("v1a,", "v1,"), SECRET),
            (self.SIGNATURE, SECRET),
            (SIGNATURE, self.PUBLIC),
        ]:
            with pytest.raises(VerificationFailed):
                verify(headers(signature), secrets=[secret])

    @pytest.mark.parametrize(
        "secret",
        [PRIVATE[:-1], PRIVATE[:-3], "whsk_", "whsk_%", PRIVATE.replace("6Xb", "7Xb"), PUBLIC],
    )
    def test_malformed_halves_cannot_sign(self, secret):
        with pytest.raises(InvalidSecret):
            signing.check_secret(secret)

    def test_a_good_one_can(self):
        signing.check_secret(self.PRIVATE)
        signing.check_secret(SECRET)

    def test_a_malformed_public_half_is_refused(self):
        with pytest.raises(InvalidSecret, match="32 bytes"):
            verify(headers(self.SIGNATURE), secrets=["whpk_AAAA"])

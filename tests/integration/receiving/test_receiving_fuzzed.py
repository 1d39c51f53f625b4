"""Whatever comes, a view that receives webhooks says yes or no, and is never in trouble itself."""

from __future__ import annotations

import contextlib
import time

import pytest
from django.test import Client
from django.urls import path
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from django_webhooks.exceptions import InvalidPayload, VerificationFailed
from django_webhooks.policies.addresses import networks
from django_webhooks.receiving import client, webhook
from tests.senders import NOW, SCHEMES, SECRET

pytestmark = pytest.mark.django_db

#: Headers that the schemes read, and one that they do not.
NAMES = sorted({name for _, make, _ in SCHEMES.values() for name in make()} | {"svix-id", "x"})
#: What a header may hold on the wire, and pieces of what the schemes expect in it.
PIECES = ["v1,", "v1a,", "v0=", "sha256=", "t=", ",", "=", " ", ".", str(NOW), "Bearer ", "0" * 64]
VALUES = some.one_of(
    some.text(some.characters(max_codepoint=255), max_size=60),
    some.lists(some.sampled_from([*PIECES, "A" * 43 + "=", "\xff", "-1"]), max_size=8).map("".join),
)
BODIES = some.one_of(
    some.binary(max_size=60),
    some.sampled_from([b"[" * 100_000, b'{"id":' * 5000, b'{"id":"\\ud800"}', b"1" * 10_000]),
    some.text(max_size=30).map(lambda text: f'{{"id":"{text}"}}'.encode("utf-8", "replace")),
)
handled = []

urlpatterns = [
    path(f"{name}/", webhook(scheme=scheme, secrets=SECRET)(lambda *both: handled.append(both)))
    for name, (scheme, _, _) in SCHEMES.items()
]
urlpatterns.append(
    path("few/", webhook(secrets=SECRET, allowed_networks=["10.0.0.0/8"])(lambda *both: None))
)
many = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(autouse=True)
def _urls(settings):
    settings.ROOT_URLCONF = __name__
    settings.MIDDLEWARE = []
    settings.WEBHOOKS_TRUSTED_PROXIES = ["127.0.0.1", "10.0.0.0/8"]


def post(name, body, headers):
    return Client().generic(
        "POST", f"/{name}/", body, headers=headers, secure=True, CONTENT_TYPE="application/json"
    )


@pytest.mark.parametrize("name", SCHEMES)
class TestViews:
    @many
    @given(headers=some.dictionaries(some.sampled_from(NAMES), VALUES), body=BODIES)
    def test_any_headers_and_any_body_are_refused(self, name, headers, body):
        handled.clear()

        assert 400 <= post(name, body, headers).status_code < 500
        assert handled == []

    @many
    @given(body=BODIES)
    def test_any_body_that_was_signed_is_taken_or_refused(self, name, body):
        assert post(name, body, SCHEMES[name][1](body, at=int(time.time()))).status_code in (
            204,
            # A repeat: the inbox knows it.
            200,
            # No event of Stripe.
            400,
            401,
            # Nothing came, which the client says no length of, and a token does not prove.
            411,
        )


@pytest.mark.parametrize("name", SCHEMES)
@many
@given(data=some.data())
def test_a_scheme_raises_nothing_but_the_documented_error(name, data):
    scheme, make, _ = SCHEMES[name]
    body = data.draw(BODIES)
    # Beyond what a header can hold, too: a scheme may be called by others than the guard.
    anything = some.one_of(VALUES, some.text(some.characters(), max_size=40))
    headers = make(body) | data.draw(some.dictionaries(some.sampled_from(NAMES), anything))

    try:
        message = scheme.verify(
            secrets=[SECRET], headers=headers, body=body, now=NOW, tolerance=300
        )
    except VerificationFailed:
        return
    with contextlib.suppress(InvalidPayload):
        _ = message.payload
    assert message.id.isascii()
    assert message.id.isprintable()
    assert len(message.id) <= 200


HOPS = some.lists(
    some.one_of(
        some.ip_addresses().map(str),
        some.ip_addresses(v=6).map(lambda one: f"[{one}]:443"),
        some.ip_addresses(v=4).map(lambda one: f"::ffff:{one}"),
        some.text(max_size=12),
        some.text("0123456789.:[]%/ abcdef", max_size=30),
    ),
    max_size=6,
).map(",".join)


@many
@given(remote=some.one_of(some.just("10.0.0.1"), some.text(max_size=20)), forwarded=HOPS)
def test_the_client_is_an_address_or_a_value_error(remote, forwarded):
    try:
        found = client.address(remote, forwarded, trusted=networks(["10.0.0.0/8"]))
    except ValueError:
        return
    # An address that was named, by the one who connected or in the header.
    named = [client.parse(remote), *(parsed(one) for one in forwarded.split(","))]
    assert found in named


def parsed(text):
    try:
        return client.parse(text)
    except ValueError:
        return None


@many
@given(forwarded=HOPS, remote=some.sampled_from(["127.0.0.1", "10.0.0.1", "192.0.2.1", "", "x"]))
def test_whatever_is_forwarded_the_view_says_yes_or_no(forwarded, remote):
    headers = SCHEMES["standard"][1](b"{}", at=int(time.time()))

    answer = Client().generic(
        "POST",
        "/few/",
        b"{}",
        headers=headers,
        secure=True,
        CONTENT_TYPE="application/json",
        REMOTE_ADDR=remote,
        HTTP_X_FORWARDED_FOR=forwarded.encode().decode("latin-1"),
    )

    # The same message from elsewhere is a repeat.
    assert answer.status_code in (200, 204, 403)

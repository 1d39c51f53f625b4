"""Attacks on a view that receives webhooks: each is refused before the handler, through the stack.

The guard has no memory: a request that was captured is taken again while its timestamp is young.
That is for the inbox to drop; see TestReplay.
"""

from __future__ import annotations

import ast
import base64
import contextlib
import hashlib
import hmac
import inspect
import json
import time
from datetime import UTC, datetime

import pytest
import standardwebhooks
import stripe
import svix
from django.test import Client, RequestFactory
from django.urls import path

from django_webhooks import signing
from django_webhooks.receiving import (
    GitHub,
    Guard,
    Rejected,
    Shopify,
    Slack,
    StandardWebhooks,
    Stripe,
    Token,
    schemes,
    webhook,
)
from tests import senders
from tests.senders import BODY, OTHER, SCHEMES, SECRET

pytestmark = pytest.mark.django_db

PAIR = signing.generate_key_pair()
TENANTS = {"acme": SECRET, "globex": OTHER}
handled = []


def keep(request, message, **arguments):
    handled.append(message)


urlpatterns = [
    *(
        path(f"{name}/", webhook(scheme=scheme, secrets=[SECRET])(keep))
        for name, (scheme, _, _) in SCHEMES.items()
    ),
    path("v1a/", webhook(secrets=[signing.public_key(PAIR)])(keep)),
    path("both/", webhook(secrets=[SECRET, signing.public_key(PAIR)])(keep)),
    path("few/", webhook(secrets=SECRET, allowed_networks=["203.0.113.0/24"])(keep)),
    path("small/", webhook(secrets=SECRET, max_bytes=100)(keep)),
    path(
        "of/<str:tenant>/",
        webhook(secrets=lambda request: TENANTS[request.resolver_match.kwargs["tenant"]])(keep),
    ),
]


@pytest.fixture(autouse=True)
def _urls(settings):
    settings.ROOT_URLCONF = __name__
    settings.MIDDLEWARE = ["django.middleware.csrf.CsrfViewMiddleware"]
    handled.clear()


def post(to, body=BODY, *, headers, secure=True, content_type="application/json", **extra):
    sender = Client(enforce_csrf_checks=True)
    # Byte for byte: post() would write the body in the charset that is claimed.
    extra = {"CONTENT_LENGTH": str(len(body)), "CONTENT_TYPE": content_type} | extra
    return sender.generic("POST", f"/{to}/", body, headers=headers, secure=secure, **extra)


def made(to, body=BODY, **how):
    """What the sender of a view would put beside the body now."""
    kind = to if to in SCHEMES else "standard"
    return SCHEMES[kind][1](body, **{"at": int(time.time())} | how)


def proof_of(to):
    return SCHEMES[to][2]


def with_proof(to, change):
    """The headers of a good request whose proof was changed."""
    headers = made(to)
    return headers | {proof_of(to): change(headers[proof_of(to)])}


def without(headers, *names):
    return {name: value for name, value in headers.items() if name not in names}


def forged(key, signed):
    return "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode()


def standard_at(text):
    """A request whose timestamp is a text, and that was signed as it is written."""
    signature = forged(signing.key_bytes(SECRET), f"msg_1.{text}.".encode() + BODY)
    return {"webhook-id": "msg_1", "webhook-timestamp": text, "webhook-signature": signature}


def stripe_at(text):
    digest = senders.digest(SECRET, f"{text}.".encode() + BODY).hex()
    return {"stripe-signature": f"t={text},v1={digest}"}


def slack_at(text):
    digest = senders.digest(SECRET, f"v0:{text}:".encode() + BODY).hex()
    return {"x-slack-request-timestamp": text, "x-slack-signature": f"v0={digest}"}


BAD = "v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc="
JUNK = "0" * 64

#: What an attacker does to the headers of a request whose body is left alone.
PROOFS = {
    "standard: no header at all": ("standard", lambda: {}),
    "standard: without its id": ("standard", lambda: without(made("standard"), "webhook-id")),
    "standard: without its timestamp": (
        "standard",
        lambda: without(made("standard"), "webhook-timestamp"),
    ),
    "standard: without its signature": (
        "standard",
        lambda: without(made("standard"), "webhook-signature"),
    ),
    "standard: an empty signature": ("standard", lambda: with_proof("standard", lambda one: "")),
    "standard: a version without a signature": (
        "standard",
        lambda: with_proof("standard", lambda one: "v1,"),
    ),
    "standard: the signature of another message": (
        "standard",
        lambda: with_proof("standard", lambda one: BAD),
    ),
    "standard: the signature cut short": (
        "standard",
        lambda: with_proof("standard", lambda one: one[:-9]),
    ),
    "standard: the signature twice without a space": (
        "standard",
        lambda: with_proof("standard", lambda one: one + one),
    ),
    "standard: the signature twice with a comma": (
        "standard",
        lambda: with_proof("standard", lambda one: f"{one},{one}"),
    ),
    "standard: version and signature the other way round": (
        "standard",
        lambda: with_proof("standard", lambda one: ",".join(reversed(one.split(",")))),
    ),
    "standard: the signature in hex": (
        "standard",
        lambda: with_proof("standard", lambda one: "v1," + base64.b64decode(one[3:]).hex()),
    ),
    "standard: the signature reversed": (
        "standard",
        lambda: with_proof("standard", lambda one: "v1," + one[:2:-1]),
    ),
    "standard: the right digest as v2": (
        "standard",
        lambda: with_proof("standard", lambda one: one.replace("v1,", "v2,")),
    ),
    "standard: the right digest as V1": (
        "standard",
        lambda: with_proof("standard", lambda one: one.replace("v1,", "V1,")),
    ),
    "standard: the right digest as v1a": (
        "both",
        lambda: with_proof("standard", lambda one: one.replace("v1,", "v1a,")),
    ),
    "standard: an HMAC keyed by the public key": (
        "v1a",
        lambda: (
            made("standard")
            | {
                "webhook-signature": forged(
                    base64.b64decode(signing.public_key(PAIR)[5:]), signed_now()
                )
            }
        ),
    ),
    "standard: an HMAC keyed by the text of the public key": (
        "v1a",
        lambda: (
            made("standard")
            | {"webhook-signature": forged(signing.public_key(PAIR).encode(), signed_now())}
        ),
    ),
    "standard: an Ed25519 signature as v1": (
        "both",
        lambda: {
            name: value.replace("v1a,", "v1,") for name, value in made("v1a", secret=PAIR).items()
        },
    ),
    "standard: an Ed25519 signature of somebody else": (
        "v1a",
        lambda: made("v1a", secret=signing.generate_key_pair()),
    ),
    "standard: an HMAC keyed by nothing": (
        "standard",
        lambda: made("standard") | {"webhook-signature": forged(b"", signed_now())},
    ),
    "standard: more signatures than are looked at, the good one last": (
        "standard",
        lambda: with_proof("standard", lambda one: " ".join([*[BAD] * 40, one])),
    ),
    "standard: the id exchanged": (
        "standard",
        lambda: made("standard") | {"webhook-id": "msg_2"},
    ),
    "standard: an id with a dot, well signed": (
        "standard",
        lambda: made("standard", message_id="msg.1"),
    ),
    "standard: an id that is a list": (
        "standard",
        lambda: made("standard") | {"webhook-id": "msg_1,msg_2"},
    ),
    "standard: an id with a line feed, well signed": (
        "standard",
        lambda: made("standard", message_id="msg_1\nx: y"),
    ),
    "standard: an id of a million characters, well signed": (
        "standard",
        lambda: made("standard", message_id="m" * 1_000_000),
    ),
    "standard: the id of one naming and the rest of the other": (
        "standard",
        lambda: without(made("standard"), "webhook-id") | {"svix-id": "msg_1"},
    ),
    "standard: a stranger's own secret": ("standard", lambda: made("standard", secret=OTHER)),
    "tenants: signed with the secret of another": ("of/globex", lambda: made("standard")),
    "github: no header": ("github", lambda: without(made("github"), "x-hub-signature-256")),
    "github: without the id of the delivery": (
        "github",
        lambda: without(made("github"), "x-github-delivery"),
    ),
    "github: SHA-1 in the header for SHA-256": (
        "github",
        lambda: (
            made("github")
            | {"x-hub-signature-256": "sha1=" + hmac.new(SECRET.encode(), BODY, "sha1").hexdigest()}
        ),
    ),
    "github: SHA-1 in its own header alone": (
        "github",
        lambda: (
            without(made("github"), "x-hub-signature-256")
            | {"x-hub-signature": "sha1=" + hmac.new(SECRET.encode(), BODY, "sha1").hexdigest()}
        ),
    ),
    "github: a SHA-1 digest called sha256": (
        "github",
        lambda: (
            made("github")
            | {
                "x-hub-signature-256": "sha256="
                + hmac.new(SECRET.encode(), BODY, "sha1").hexdigest()
            }
        ),
    ),
    "github: a digest without a key": (
        "github",
        lambda: (
            made("github") | {"x-hub-signature-256": "sha256=" + hashlib.sha256(BODY).hexdigest()}
        ),
    ),
    "github: half of the digest": (
        "github",
        lambda: with_proof("github", lambda one: one[: 7 + 32]),
    ),
    "github: no digest": ("github", lambda: with_proof("github", lambda one: "sha256=")),
    "github: two digests, the good one second": (
        "github",
        lambda: with_proof("github", lambda one: f"sha256={JUNK},{one}"),
    ),
    "github: two digests, the good one first": (
        "github",
        lambda: with_proof("github", lambda one: f"{one},sha256={JUNK}"),
    ),
    "github: an id with a terminal's escape": (
        "github",
        lambda: made("github") | {"x-github-delivery": "\x1b[2J"},
    ),
    "github: the signature of Shopify": (
        "github",
        lambda: made("github") | {"x-hub-signature-256": next(iter(made("shopify").values()))},
    ),
    "stripe: the digest as v0": (
        "stripe",
        lambda: with_proof("stripe", lambda one: one.replace("v1=", "v0=")),
    ),
    "stripe: without a timestamp": (
        "stripe",
        lambda: with_proof("stripe", lambda one: one.partition(",")[2]),
    ),
    "stripe: a second timestamp that is younger": (
        "stripe",
        lambda: with_proof("stripe", lambda one: f"{one},t={int(time.time()) + 5}"),
    ),
    "stripe: an old request under a new timestamp": (
        "stripe",
        lambda: {
            "stripe-signature": made("stripe", at=1_700_000_000)["stripe-signature"].replace(
                "1700000000", str(int(time.time()))
            )
        },
    ),
    "stripe: a timestamp alone": (
        "stripe",
        lambda: {"stripe-signature": f"t={int(time.time())}"},
    ),
    "stripe: a hundred digests, none good": (
        "stripe",
        lambda: {"stripe-signature": f"t={int(time.time())}" + f",v1={JUNK}" * 100},
    ),
    "slack: the digest as v1": (
        "slack",
        lambda: with_proof("slack", lambda one: one.replace("v0=", "v1=")),
    ),
    "slack: without its timestamp": (
        "slack",
        lambda: without(made("slack"), "x-slack-request-timestamp"),
    ),
    "slack: an old request under a new timestamp": (
        "slack",
        lambda: (
            made("slack", at=1_700_000_000) | {"x-slack-request-timestamp": str(int(time.time()))}
        ),
    ),
    "shopify: the digest in hex": (
        "shopify",
        lambda: with_proof("shopify", lambda one: base64.b64decode(one).hex()),
    ),
    "shopify: the digest cut": ("shopify", lambda: with_proof("shopify", lambda one: one[:-4])),
    "shopify: without an id": (
        "shopify",
        lambda: without(made("shopify"), "x-shopify-webhook-id"),
    ),
    "token: none": ("token", lambda: {"authorization": "Bearer"}),
    "token: of another kind": ("token", lambda: {"authorization": f"Basic {SECRET}"}),
    "token: the first half": ("token", lambda: {"authorization": f"Bearer {SECRET[:-9]}"}),
    "token: with more behind it": ("token", lambda: {"authorization": f"Bearer {SECRET}x"}),
    "token: in another case": ("token", lambda: {"authorization": f"Bearer {SECRET.lower()}"}),
    "token: beyond ASCII": ("token", lambda: {"authorization": "Bearer \xfc\xff"}),
    "a proof beyond ASCII": ("standard", lambda: with_proof("standard", lambda one: "v1,\xff\xfe")),
    "a timestamp beyond ASCII": ("slack", lambda: slack_at("1" * 9 + "\xb2")),
    "an id beyond ASCII, well signed": ("standard", lambda: made("standard", message_id="\xfc")),
}


def signed_now():
    return f"msg_1.{int(time.time())}.".encode() + BODY


@pytest.mark.parametrize(("to", "make"), PROOFS.values(), ids=PROOFS)
def test_a_proof_that_proves_nothing(to, make):
    answer = post(to, headers=make())

    assert (answer.status_code, answer.content) == (401, b"signature\n")
    assert handled == []


def moments():
    now = int(time.time())
    return {
        "301 seconds old": now - 302,
        "302 seconds ahead": now + 303,
        "of 1970": 0,
        "negative": -now,
        "in milliseconds": now * 1000,
        "of forty digits": "9" * 40,
        "with a fraction": f"{now}.0",
        "with an exponent": "17e8",
        "in hexadecimal": hex(now),
        "in Arabic digits": "".join(chr(0x660 + int(digit)) for digit in str(now)),
        "in superscript": "\xb2\xb3\xb9",
        "with a plus": f"+{now}",
        "with spaces within": f"{str(now)[:3]} {str(now)[3:]}",
        "with underscores": f"{str(now)[:3]}_{str(now)[3:]}",
        "as a date": datetime.now(UTC).isoformat(),
        "not a number": "NaN",
        "infinite": "inf",
        "empty": "",
    }


@pytest.mark.parametrize("when", moments())
@pytest.mark.parametrize(
    ("to", "make"),
    [("standard", standard_at), ("stripe", stripe_at), ("slack", slack_at)],
    ids=["standard", "stripe", "slack"],
)
def test_a_timestamp_that_is_not_now_however_well_it_is_signed(to, make, when):
    headers = make(str(moments()[when]))
    # Headers are ISO 8859-1 on the wire, and UTF-8 within it.
    headers = {key: value.encode().decode("latin-1") for key, value in headers.items()}

    assert post(to, headers=headers).status_code == 401
    assert handled == []


BODIES = {
    "one byte changed": BODY.replace(b"19.90", b"19.91"),
    "one byte more": BODY + b" ",
    "one byte less": BODY[:-1],
    "a line feed at its end": BODY + b"\n",
    "serialised again": json.dumps(json.loads(BODY)).encode(),
    "with its keys in another order": json.dumps(
        dict(reversed(json.loads(BODY).items())), separators=(",", ":")
    ).encode(),
    "behind a byte order mark": b"\xef\xbb\xbf" + BODY,
    "in UTF-16": BODY.decode().encode("utf-16"),
    "empty": b"",
    "NUL behind it": BODY + b"\0",
    "a different one": b'{"id":"evt_2"}',
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
@pytest.mark.parametrize("to", [name for name in SCHEMES if name != "token"])
def test_a_body_that_was_not_signed(to, body):
    answer = post(to, body, headers=made(to))

    assert answer.status_code == 401
    assert handled == []


FORMS = {
    "GET": ("standard", {"method": "get"}, 405),
    "PUT": ("standard", {"method": "put"}, 405),
    "PATCH": ("standard", {"method": "patch"}, 405),
    "DELETE": ("standard", {"method": "delete"}, 405),
    "TRACE": ("standard", {"method": "trace"}, 405),
    "POST that asks to be a GET": ("standard", {"HTTP_X_HTTP_METHOD_OVERRIDE": "GET"}, 204),
    "plain text": ("standard", {"content_type": "text/plain"}, 415),
    "a form that browsers send across sites": (
        "standard",
        {"content_type": "application/x-www-form-urlencoded"},
        415,
    ),
    "a form with files": ("github", {"content_type": "multipart/form-data; boundary=x"}, 415),
    "JSON in name only": ("standard", {"content_type": "application/json5"}, 415),
    "text": ("standard", {"content_type": "text/plain"}, 415),
    "two content types": ("standard", {"content_type": "application/json, text/plain"}, 415),
    "compressed": ("standard", {"HTTP_CONTENT_ENCODING": "gzip"}, 415),
    "http without TLS": ("standard", {"secure": False}, 403),
    "http that says it was https": (
        "standard",
        {"secure": False, "HTTP_X_FORWARDED_PROTO": "https"},
        403,
    ),
    "a body over the limit": ("small", {"body": b'{"x":"%s"}' % (b"x" * 100)}, 413),
    "a body said to be endless": ("standard", {"CONTENT_LENGTH": "9" * 50}, 413),
    "a body said to be negative": ("standard", {"CONTENT_LENGTH": "-1"}, 413),
    "a length of zeros": ("standard", {"CONTENT_LENGTH": "0" * 5000}, 413),
    "a length with a plus": ("standard", {"CONTENT_LENGTH": f"+{len(BODY)}"}, 413),
    "a length of two": ("standard", {"CONTENT_LENGTH": f"{len(BODY)}, {len(BODY)}"}, 413),
}


@pytest.mark.parametrize(("to", "how", "status"), FORMS.values(), ids=FORMS)
def test_a_form_that_no_webhook_has(to, how, status):
    how = {"body": BODY, "secure": True, "content_type": "application/json"} | how
    body, method = how.pop("body"), how.pop("method", "post")
    sender = Client(enforce_csrf_checks=True)
    arguments = {} if method in ("get", "trace") else {"data": body}
    if "data" not in arguments:
        how.pop("content_type")

    answer = getattr(sender, method)(f"/{to}/", headers=made(to, body), **arguments, **how)

    assert answer.status_code == status
    assert len(handled) == (status == 204)


def test_a_charset_that_is_claimed_changes_nothing():
    body = '{"id":"evt_1","type":"größe"}'.encode()

    answer = post(
        "standard",
        body,
        headers=made("standard", body),
        content_type="application/json; charset=utf-16",
    )

    assert answer.status_code == 204
    assert handled[0].payload["type"] == "größe"


ONE, TWO = ["10.0.0.1"], ["10.0.0.1", "10.0.0.2"]
SIX = ["2001:db8:1::/64"]
#: The proxies that are trusted, who connects, what is forwarded, and whether it may call.
LAYOUTS = {
    "no proxy: the header is the client's own words": ([], "192.0.2.1", "203.0.113.7", False),
    "no proxy: a whole chain of lies": ([], "192.0.2.1", "203.0.113.7, 10.0.0.1", False),
    "no proxy: a good client": ([], "203.0.113.7", "", True),
    "no proxy: a good client that lies": ([], "203.0.113.7", "192.0.2.1", True),
    "one proxy: what the client wrote stands to the left": (
        ONE,
        "10.0.0.1",
        "203.0.113.7, 192.0.2.1",
        False,
    ),
    "one proxy: a good client": (ONE, "10.0.0.1", "203.0.113.7", True),
    "one proxy: passed by": (ONE, "192.0.2.1", "203.0.113.7", False),
    "one proxy: the client names the proxy": (ONE, "10.0.0.1", "203.0.113.7, 10.0.0.2", False),
    "one proxy: it said nothing": (ONE, "10.0.0.1", "", False),
    "one proxy: an empty element": (ONE, "10.0.0.1", "203.0.113.7, ", False),
    "one proxy: only commas": (ONE, "10.0.0.1", ",,,", False),
    "one proxy: spaces": (ONE, "10.0.0.1", "   ", False),
    "one proxy: a name": (ONE, "10.0.0.1", "203.0.113.7, localhost", False),
    "one proxy: unknown": (ONE, "10.0.0.1", "203.0.113.7, unknown", False),
    "one proxy: a port": (ONE, "10.0.0.1", "203.0.113.7:4711", True),
    "one proxy: a port that is none": (ONE, "10.0.0.1", "203.0.113.7:x", False),
    "one proxy: an address in octal": (ONE, "10.0.0.1", "0313.0.0161.7", False),
    "one proxy: an address as a number": (ONE, "10.0.0.1", "3405803783", False),
    "one proxy: a network": (ONE, "10.0.0.1", "203.0.113.0/24", False),
    "one proxy: digits of Unicode": (ONE, "10.0.0.1", "203.0.113.\xb9", False),
    "one proxy: markup": (ONE, "10.0.0.1", "<203.0.113.7>", False),
    "one proxy: for=": (ONE, "10.0.0.1", "for=203.0.113.7", False),
    "two proxies: a good client": (TWO, "10.0.0.1", "203.0.113.7, 10.0.0.2", True),
    "two proxies: what the client wrote stands to the left": (
        TWO,
        "10.0.0.1",
        "203.0.113.7, 192.0.2.1, 10.0.0.2",
        False,
    ),
    "two proxies: the inner one is passed by": (TWO, "10.0.0.2", "192.0.2.1", False),
    "two proxies: nothing but proxies": (TWO, "10.0.0.1", "10.0.0.2, 10.0.0.1", False),
    "two proxies: a thousand of them": (
        TWO,
        "10.0.0.1",
        "203.0.113.7, 192.0.2.1, " + ", ".join(["10.0.0.2"] * 1000),
        False,
    ),
    "IPv6: a good client": (SIX, "2001:db8:1::5", "203.0.113.7", True),
    "IPv6: brackets and a port": (SIX, "2001:db8:1::5", "[::ffff:203.0.113.7]:443", True),
    "IPv6: brackets that do not close": (SIX, "2001:db8:1::5", "[::ffff:203.0.113.7", False),
    "IPv6: a client beside the proxies": (SIX, "2001:db8:1::5", "2001:db8:1::9", False),
    "IPv6: a zone": (SIX, "2001:db8:1::5", "fe80::1%eth0", False),
    "IPv4 in IPv6: a good client": ([], "::ffff:203.0.113.7", "", True),
    "IPv4 in IPv6: a stranger": ([], "::ffff:192.0.2.1", "", False),
    "IPv4 in IPv6: a proxy": (ONE, "::ffff:10.0.0.1", "::ffff:203.0.113.7", True),
    "IPv4 in IPv6: translated, which is another host": ([], "64:ff9b::cb00:7107", "", False),
    "IPv4 in IPv6: compatible, which is no longer used": ([], "::203.0.113.7", "", False),
    "no address: a socket of Unix": (ONE, "", "203.0.113.7", False),
}


@pytest.mark.parametrize(("trusted", "remote", "forwarded", "may"), LAYOUTS.values(), ids=LAYOUTS)
def test_a_client_is_who_the_proxies_say(settings, trusted, remote, forwarded, may):
    settings.WEBHOOKS_TRUSTED_PROXIES = trusted
    extra = {"HTTP_X_FORWARDED_FOR": forwarded} if forwarded else {}

    answer = post("few", headers=made("few"), REMOTE_ADDR=remote, **extra)

    assert answer.status_code == (204 if may else 403)
    assert len(handled) == may


@pytest.mark.parametrize(
    "header",
    [
        "Forwarded",
        "X-Real-IP",
        "X-Client-IP",
        "True-Client-IP",
        "CF-Connecting-IP",
        "X-Forwarded",
        "X-Cluster-Client-IP",
    ],
)
@pytest.mark.parametrize("remote", ["192.0.2.1", "10.0.0.1"], ids=["directly", "by the proxy"])
def test_headers_of_other_proxies_are_not_read(settings, header, remote):
    settings.WEBHOOKS_TRUSTED_PROXIES = ONE
    forwarded = {} if remote == "192.0.2.1" else {"HTTP_X_FORWARDED_FOR": "192.0.2.1"}
    value = "for=203.0.113.7" if header == "Forwarded" else "203.0.113.7"

    answer = post("few", headers=made("few") | {header: value}, REMOTE_ADDR=remote, **forwarded)

    assert (answer.status_code, handled) == (403, [])


class TestReplay:
    """A captured request, sent again byte for byte."""

    @pytest.mark.parametrize("name", SCHEMES)
    def test_inside_the_window_the_guard_alone_takes_it_with_the_same_id(self, name):
        guard = Guard(scheme=SCHEMES[name][0], secrets=SECRET)
        requests = [captured(name), captured(name)]

        ids = {guard.check(one, now=senders.NOW + 200).id for one in requests}

        assert len(ids) == 1

    @pytest.mark.parametrize("name", ["standard", "stripe", "slack"])
    @pytest.mark.parametrize("later", [301, 3600, 10**8, -301])
    def test_outside_the_window_it_is_refused_where_the_time_is_signed(self, name, later):
        guard = Guard(scheme=SCHEMES[name][0], secrets=SECRET)

        with pytest.raises(Rejected) as raised:
            guard.check(captured(name), now=senders.NOW + later)

        # A signature that holds, of another time: a reason of its own.
        assert raised.value.reason == "timestamp"

    @pytest.mark.parametrize("scheme", [GitHub(id_from_body=True), Shopify(id_from_body=True)])
    def test_under_another_id_it_is_the_same_message_where_the_id_is_of_the_body(self, scheme):
        guard = Guard(scheme=scheme, secrets=SECRET)
        header = {"github": "x-github-delivery", "shopify": "x-shopify-webhook-id"}[scheme.name]

        ids = {guard.check(captured(scheme.name, **{header: one})).id for one in ("a", "b", "c")}

        assert len(ids) == 1


def captured(name, **changed):
    headers = SCHEMES[name][1]() | changed
    return RequestFactory().post(
        "/", BODY, content_type="application/json", headers=headers, secure=True
    )


class TestBorders:
    """Whether two different requests can have one signature."""

    PARTS = ("m", "m.1", "1", "17", "1.1", "", "m:1", "v0:1")

    def test_no_two_requests_of_a_scheme_are_signed_alike(self):
        """Take each way to cut what is signed that a scheme takes, and find one at the most."""
        bodies = [b"5", b"17.5", b"1.17.5", b"17:5", b".", b"", b"m.17.5", b'{"id":"x"}']
        taken: dict[tuple[str, bytes], set[tuple[str, str, bytes]]] = {}
        for message_id in ("m", "m.17", "m.1", "17", "1.17", "m.17.17"):
            for at in ("17", "1", "017", "17.17", "1.17", "+17"):
                for body in bodies:
                    key = signing.key_bytes(SECRET)
                    signed = f"{message_id}.{at}.".encode() + body
                    headers = {
                        "webhook-id": message_id,
                        "webhook-timestamp": at,
                        "webhook-signature": forged(key, signed),
                    }
                    if takes(StandardWebhooks(), headers, body):
                        cut = (message_id, at, body)
                        taken.setdefault(("standard", signed), set()).add(cut)
        for scheme, make, between in ((Stripe(), stripe_of, b"."), (Slack(), slack_of, b":")):
            for at in ("17", "1", "017", "17.17", "1:17", "+17", "17:1"):
                for body in bodies:
                    signed = at.encode() + between + body
                    if takes(scheme, make(at, body), body):
                        taken.setdefault((scheme.name, signed), set()).add(("", at, body))

        assert {name for name, _ in taken} == {"standard", "stripe", "slack"}
        assert [cuts for cuts in taken.values() if len(cuts) > 1] == []

    def test_a_body_that_begins_like_a_timestamp_is_taken_as_it_is(self):
        now = int(time.time())
        body = f"{now}.5".encode()
        headers = made("standard", body)

        assert post("standard", body, headers=headers).status_code == 204
        moved = headers | {"webhook-id": f"msg_1.{headers['webhook-timestamp']}"}
        assert (
            post("standard", b"5", headers=moved | {"webhook-timestamp": str(now)}).status_code
            == 401
        )
        assert [one.body for one in handled] == [body]


def stripe_of(at, body):
    digest = senders.digest(SECRET, f"{at}.".encode() + body).hex()
    return {"stripe-signature": f"t={at},v1={digest}"}


def slack_of(at, body):
    digest = senders.digest(SECRET, f"v0:{at}:".encode() + body).hex()
    return {"x-slack-request-timestamp": at, "x-slack-signature": f"v0={digest}"}


def takes(scheme, headers, body):
    with contextlib.suppress(Exception):
        scheme.verify(secrets=[SECRET], headers=headers, body=body, now=17, tolerance=300)
        return True
    return False


class TestConstantTime:
    """Shown by the function that compares, not by a clock."""

    @pytest.mark.parametrize("name", SCHEMES)
    def test_each_proof_is_compared_by_compare_digest(self, monkeypatch, name):
        compared = []

        def spy(one, other):
            compared.append((one, other))
            return False

        monkeypatch.setattr(hmac, "compare_digest", spy)

        assert post(name, headers=made(name)).status_code == 401
        # The good proof was among them, so that nothing but this function tells good from bad.
        assert any(one == other for one, other in compared)

    @pytest.mark.parametrize("module", [schemes, signing])
    def test_nothing_else_compares_what_came(self, module):
        """All comparisons of values in the source, but those with a constant."""
        found = [
            ast.unparse(node)
            for node in ast.walk(ast.parse(inspect.getsource(module)))
            if isinstance(node, ast.Compare)
            and isinstance(node.ops[0], ast.Eq | ast.NotEq | ast.In | ast.NotIn)
            and not any(isinstance(one, ast.Constant) for one in [node.left, *node.comparators])
        ]

        known = {
            # Lengths and kinds of keys, how a number is written, and the halves of our own key.
            "kind == ED25519",
            "len(key) != length",
            "text != str(int(text))",
            "key.public_key().public_bytes_raw() != pair[32:]",
        }
        assert set(found) <= known


class TestLibraries:
    """Requests that the senders' own libraries make, through the view."""

    @pytest.mark.parametrize("library", [standardwebhooks, svix], ids=["standardwebhooks", "svix"])
    @pytest.mark.parametrize("prefix", ["webhook", "svix"])
    def test_standard_webhooks(self, library, prefix):
        now = datetime.now(UTC).replace(microsecond=0)
        headers = {
            f"{prefix}-id": "msg_1",
            f"{prefix}-timestamp": str(int(now.timestamp())),
            f"{prefix}-signature": library.Webhook(SECRET).sign("msg_1", now, BODY.decode()),
        }

        assert post("standard", headers=headers).status_code == 204
        assert [one.id for one in handled] == ["msg_1"]

    def test_stripe(self):
        now = int(time.time())
        made = stripe.WebhookSignature._compute_signature(f"{now}.{BODY.decode()}", SECRET)

        assert post("stripe", headers={"stripe-signature": f"t={now},v1={made}"}).status_code == 204
        assert [one.id for one in handled] == ["evt_1"]

    def test_github_and_shopify_by_their_documented_algorithms(self):
        for name in ("github", "shopify"):
            assert post(name, headers=made(name)).status_code == 204

        assert [one.scheme for one in handled] == ["github", "shopify"]

    @pytest.mark.parametrize(
        "secret",
        [
            "whsec_",
            "whsec_%",
            "hwsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "whpk_AAAA",
            PAIR[:-1],
            "whsec_" + base64.b64encode(b"x" * 23).decode(),
            "whsec_" + base64.b64encode(b"x" * 65).decode(),
        ],
    )
    def test_a_secret_that_must_be_refused_lets_nobody_in(self, secret):
        view = webhook(secrets=secret)(keep)

        answer = view(captured("standard", **made("standard")))

        assert (answer.status_code, answer.content) == (503, b"secrets\n")
        assert handled == []

    def test_a_token_of_a_custom_header_is_not_taken_from_another(self):
        guard = Guard(scheme=Token(header="X-Key", prefix=""), secrets=SECRET)

        with pytest.raises(Rejected):
            guard.check(captured("token"))

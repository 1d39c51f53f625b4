"""Attacks on a view that receives webhooks where the bytes on the wire matter: a real server."""

from __future__ import annotations

import logging
import socket
import tempfile
import threading
import time
import tracemalloc
from contextlib import contextmanager

import pytest
from django.core.handlers.asgi import ASGIRequest
from django.core.handlers.wsgi import WSGIHandler
from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler
from django.http import HttpResponse
from django.urls import path, re_path

from django_webhooks.receiving import Guard, Rejected, Token, webhook
from tests.senders import BODY, SCHEMES, SECRET

pytestmark = pytest.mark.django_db(transaction=True)

handled = []


def keep(request, message, **arguments):
    handled.append(message)


urlpatterns = [
    *(
        path(
            f"{name}/",
            webhook(name=name, scheme=scheme, secrets=[SECRET], require_https=False)(keep),
        )
        for name, (scheme, _, _) in SCHEMES.items()
    ),
    path(
        "few/",
        webhook(secrets=SECRET, require_https=False, allowed_networks=["203.0.113.0/24"])(keep),
    ),
    path("health/", lambda request: HttpResponse("well")),
    re_path("^any/(?P<rest>.*)", webhook(secrets=SECRET, require_https=False)(keep)),
]


class Quiet(WSGIRequestHandler):
    timeout = 60

    def log_message(self, *args):
        """Say nothing."""


@pytest.fixture
def server(settings):
    settings.ROOT_URLCONF = __name__
    settings.MIDDLEWARE = []
    settings.ALLOWED_HOSTS = ["*"]
    handled.clear()
    found = ThreadedWSGIServer(("127.0.0.1", 0), Quiet)
    found.daemon_threads = True
    found.set_app(WSGIHandler())
    threading.Thread(target=found.serve_forever, args=(0.02,), daemon=True).start()
    yield found.server_address
    found.shutdown()
    found.server_close()


@contextmanager
def connected(server):
    with socket.create_connection(server, timeout=60) as found:
        yield found


LENGTH = len(BODY)


def head(to, *lines, length=LENGTH):
    """The head of a request with lines of its own; a length of None is not said."""
    said = [] if length is None else [f"Content-Length: {length}".encode()]
    known = [
        f"POST /{to}/ HTTP/1.1".encode(),
        b"Host: x",
        b"Content-Type: application/json",
        b"Connection: close",
        *said,
        *(line.encode("latin-1") if isinstance(line, str) else line for line in lines),
    ]
    return b"\r\n".join(known) + b"\r\n\r\n"


def good(to, body=BODY):
    kind = to if to in SCHEMES else "standard"
    return [
        f"{name}: {value}" for name, value in SCHEMES[kind][1](body, at=int(time.time())).items()
    ]


def ask(server, sent, *, and_close=False):
    """Send bytes and return the status of the answer, 0 where none came."""
    with connected(server) as connection:
        connection.sendall(sent)
        if and_close:
            connection.shutdown(socket.SHUT_WR)
        answer = connection.makefile("rb").readline()
    return int(answer.split()[1]) if answer else 0


def doubled(to, name, value):
    return [*good(to), f"{name}: {value}"]


def test_a_good_request_is_handled(server):
    for name in SCHEMES:
        assert ask(server, head(name, *good(name)) + BODY) == 204

    assert [one.scheme for one in handled] == list(SCHEMES)


JUNK = "0" * 64
TWICE = {
    "a second signature of Standard Webhooks": ("standard", "webhook-signature", "v1,AAAA"),
    "a second id": ("standard", "webhook-id", "msg_2"),
    "a second timestamp": ("standard", "webhook-timestamp", "1"),
    "a second signature of GitHub": ("github", "x-hub-signature-256", f"sha256={JUNK}"),
    "a second signature of Slack": ("slack", "x-slack-signature", f"v0={JUNK}"),
    "a second timestamp of Slack": ("slack", "x-slack-request-timestamp", "1"),
    "a second header of Stripe with a timestamp": ("stripe", "stripe-signature", "t=1"),
    "a second signature of Shopify": ("shopify", "x-shopify-hmac-sha256", "AAAA"),
    "a second token": ("token", "authorization", "Bearer x"),
}


@pytest.mark.parametrize(("to", "name", "value"), TWICE.values(), ids=TWICE)
def test_a_header_that_comes_twice_is_refused(server, to, name, value):
    assert ask(server, head(to, *doubled(to, name, value)) + BODY) == 401
    assert handled == []


CHUNKS = b"%x\r\n%s\r\n0\r\n\r\n" % (LENGTH, BODY)
#: Where to, what is said of the length, what comes behind the head, and the answer.
LENGTHS = {
    "chunked, whose body this server does not read": (
        "standard",
        {"lines": ["Transfer-Encoding: chunked"], "length": None},
        CHUNKS,
        411,
    ),
    "chunked, with a token": (
        "token",
        {"lines": ["Transfer-Encoding: chunked"], "length": None},
        CHUNKS,
        411,
    ),
    "chunked with a length": ("standard", {"lines": ["Transfer-Encoding: chunked"]}, CHUNKS, 400),
    "no length": ("standard", {"length": None}, BODY, 401),
    "no length, with a token": ("token", {"length": None}, BODY, 411),
    "shorter than it is": ("standard", {"length": 5}, BODY, 401),
    "longer than it is, with a signature": ("standard", {"length": LENGTH + 9}, BODY, 400),
    "longer than it is, with a token": ("token", {"length": LENGTH + 9}, BODY, 400),
    "nothing of it came, with a token": ("token", {}, b"", 400),
    "over the limit, before a byte of it came": ("standard", {"length": 10**7}, b"", 413),
    "a number in hexadecimal": ("standard", {"length": "0x10"}, BODY, 413),
}


@pytest.mark.parametrize(("to", "said", "sent", "status"), LENGTHS.values(), ids=LENGTHS)
def test_a_length_that_lies_reaches_no_handler(server, to, said, sent, status):
    said = dict(said)
    found = head(to, *good(to), *said.pop("lines", []), **said)

    assert ask(server, found + sent, and_close=True) == status
    assert handled == []


def test_what_follows_a_short_length_is_no_second_request(server):
    inner = head("standard", *good("standard")) + BODY
    sent = head("standard", *good("standard"), length=0) + inner

    assert ask(server, sent) == 401
    time.sleep(0.2)
    assert handled == []


def test_a_slow_body_holds_up_nobody_else_and_reaches_no_handler(server):
    with connected(server) as slow:
        slow.sendall(head("standard", *good("standard")) + BODY[:10])
        for byte in BODY[10:15]:
            slow.sendall(bytes([byte]))
            time.sleep(0.02)
        began = time.monotonic()
        health = b"GET /health/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

        assert ask(server, health) == 200
        # So long the server waits for the rest of the slow one.
        assert time.monotonic() - began < Quiet.timeout / 2
        assert handled == []

    time.sleep(0.2)
    assert handled == []


INJECTED = {
    "a folded id": "webhook-id: msg_1\r\n x",
    "NUL in the id": "webhook-id: msg_1\0",
    "an id beyond ASCII": "webhook-id: msg_\xfc",
    "a space before the colon": "webhook-id : msg_1",
    "an underscore for the hyphen": "webhook_id: msg_1",
    "bytes that are no UTF-8": b"webhook-id: \xff\xfe",
    "a header of 60,000 characters": "webhook-id: " + "m" * 60_000,
}


@pytest.mark.parametrize("line", INJECTED.values(), ids=INJECTED)
def test_a_header_with_more_in_it(server, line):
    rest = [one for one in good("standard") if not one.startswith("webhook-id")]

    assert ask(server, head("standard", *rest, line) + BODY) in (400, 401)
    assert handled == []


@pytest.mark.parametrize("end", ["\n", "\r"], ids=["line feed", "carriage return"])
def test_an_id_ends_where_its_line_ends(server, end):
    rest = [one for one in good("standard") if not one.startswith("webhook-id")]
    line = f"webhook-id: msg_1{end}webhook-signature: v1,AAAA"

    assert ask(server, head("standard", *rest, line) + BODY) == 401
    assert handled == []


FORWARDED = {
    "the client's header before the proxy's": (
        ["X-Forwarded-For: 203.0.113.7", "X-Forwarded-For: 192.0.2.1"],
        403,
    ),
    "the proxy's header behind the client's": (
        ["X-Forwarded-For: 192.0.2.1", "X-Forwarded-For: 203.0.113.7"],
        204,
    ),
    "an underscore for the hyphen": (["X_Forwarded_For: 203.0.113.7"], 403),
    "folded": (["X-Forwarded-For: 192.0.2.1,\r\n 203.0.113.7x"], 403),
}


@pytest.mark.parametrize(("lines", "status"), FORWARDED.values(), ids=FORWARDED)
def test_several_forwarded_headers(server, settings, lines, status):
    settings.WEBHOOKS_TRUSTED_PROXIES = ["127.0.0.1"]

    assert ask(server, head("few", *good("few"), *lines) + BODY) == status
    assert len(handled) == (status == 204)


def test_a_path_cannot_write_lines_of_its_own_into_the_log(server, caplog):
    with caplog.at_level(logging.WARNING, "django_webhooks"):
        ask(server, head("any/%0aERROR%20forged%1b%5b2J%e2%80%ae") + BODY)

    [record] = [one for one in caplog.records if one.name.startswith("django_webhooks")]
    text = record.getMessage()
    assert text.isprintable()
    assert text.startswith("A webhook to /any/\\nERROR forged\\x1b[2J\\u202e/ was refused")


class TestWithoutALength:
    """Under ASGI a body may come in chunks; Django puts it aside, however long it is."""

    def request(self, body):
        put_aside = tempfile.SpooledTemporaryFile(max_size=1000)  # noqa: SIM115
        put_aside.write(body)
        put_aside.seek(0)
        headers = [(b"content-type", b"application/json"), (b"authorization", b"Bearer t")]
        scope = {"type": "http", "method": "POST", "path": "/", "query_string": b""}
        return ASGIRequest(scope | {"headers": headers}, put_aside)

    def test_one_within_the_limit_is_read(self):
        guard = Guard(scheme=Token(), secrets="t", require_https=False)
        request = self.request(BODY)

        assert guard.check(request).body == BODY
        assert request.body == BODY
        request.close()

    def test_one_over_the_limit_is_not_read_into_memory(self):
        guard = Guard(scheme=Token(), secrets="t", require_https=False, max_bytes=1000)
        request = self.request(b"x" * 20_000_000)
        tracemalloc.start()
        try:
            with pytest.raises(Rejected) as raised:
                guard.check(request)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
            request.close()

        assert raised.value.status == 413
        assert peak < 2_000_000

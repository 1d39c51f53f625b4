"""A receiver gets the bytes that were built, whoever patches the layers of HTTP below."""

from __future__ import annotations

import http.client

import pytest
import requests
import urllib3

from django_webhooks.sending.http import get, post
from tests.receivers import speaking

#: What tools for observability replace to add headers and to make spans.
PATCHED = [
    *((http.client.HTTPConnection, name) for name in (
        "request", "putrequest", "putheader", "endheaders", "send", "getresponse",
        "_send_request", "_send_output",
    )),
    *((urllib3.connection.HTTPConnection, name) for name in (
        "request", "putrequest", "putheader", "request_chunked", "getresponse",
    )),
    (urllib3.connectionpool.HTTPConnectionPool, "urlopen"),
    (urllib3.connectionpool.HTTPConnectionPool, "_make_request"),
    (urllib3.PoolManager, "urlopen"),
    (requests.Session, "request"),
    (requests.Session, "send"),
    (requests.adapters.HTTPAdapter, "send"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("owner", "name"), PATCHED, ids=[f"{one.__module__}.{name}" for one, name in PATCHED]
)
@pytest.mark.parametrize("method", ["POST", "GET"])
def test_the_bytes_are_those_that_were_built(monkeypatch, owner, name, method):
    def patched(*args, **kwargs):
        raise AssertionError(f"{name} of another module was asked to send a request")

    monkeypatch.setattr(owner, name, patched)
    came = []

    def speak(connection):
        came.append(connection.recv(65_536))
        connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    with speaking(speak) as place:
        url, headers = f"http://{place}/hook?key=a b%", {"x-one": "1", "webhook-id": "msg_1"}
        if method == "POST":
            answer = post(url.replace(" ", "+"), headers=headers, body=b"{}", timeout=5)
        else:
            answer = get(url.replace(" ", "+"), headers=headers, timeout=5)

    length = "content-length: 2\r\n" if method == "POST" else ""
    body = "{}" if method == "POST" else ""
    assert getattr(answer, "status", answer) == 204
    assert came == [
        (
            f"{method} /hook?key=a+b%25 HTTP/1.1\r\nHost: {place}\r\n"
            "Accept-Encoding: identity\r\nx-one: 1\r\nwebhook-id: msg_1\r\n"
            f"{length}\r\n{body}"
        ).encode()
    ]

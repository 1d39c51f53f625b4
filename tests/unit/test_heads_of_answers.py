"""Heads of answers are read as http.client reads them, whatever they are."""

from __future__ import annotations

import http.client
import io
import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as some

from django_webhooks.sending import pools

#: Lines as receivers send them, and pieces of what is none.
LINES = [
    b"Content-Length: 12",
    b"content-length:3",
    b"Content-Length: -1",
    b"Content-Length: 1x",
    b"Transfer-Encoding: chunked",
    b"transfer-encoding: Chunked",
    b"transfer-encoding: chunked ",
    b"Transfer-Encoding: gzip, chunked",
    b"Connection: close",
    b"Connection:\tKeep-Alive",
    b"Keep-Alive: timeout=5",
    b"Proxy-Connection: keep-alive",
    b"Retry-After:  120  ",
    b"X-Text: \xe4\xff",
    b"X:",
    b" folded",
    b"\tfolded: too",
    b"no colon",
    b": no name",
    b"two words: x",
    b"From me@example.com",
    b"X-Nul: a\x00b",
    b"X-Return: a\rb",
    b"X-Separator: a\x85b\x0bc\x1cd",
    b"X-Next: a\x85Content-Length: 7",
    b"Content-Type: multipart/mixed; boundary=x",
    b"Subject: =?utf-8?q?=C3=A4?=",
]
STARTS = [
    b"HTTP/1.1 200 OK",
    b"HTTP/1.1 204 No Content",
    b"HTTP/1.1 304 Not Modified",
    b"HTTP/1.0 200 OK",
    b"HTTP/0.9 200",
    b"HTTP/1.7 503  Busy ",
    b"HTTP/2.0 200 OK",
    b"HTTP/0.99 200 OK",
    b"HTTP/1.1 101 Switching",
    b"HTTP/1.1 100 Continue\r\nX: y\r\n\r\nHTTP/1.1 201 Created",
    b"HTTP/1.1 abc",
    b"",
]


class Socket:
    """What http.client asks of a socket."""

    def __init__(self, head: bytes) -> None:
        self.head = head

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(io.BytesIO(self.head))  # type: ignore[arg-type]


def read(kind, begin, head):
    """Return what a class of answers makes of a head, and what it leaves unread."""
    answer = kind(Socket(head), method="POST")
    rest = answer.fp
    try:
        begin(answer)
    except Exception as error:
        return type(error)
    told = (answer.status, answer.reason, answer.version, answer.chunked, answer.length)
    return told, answer.will_close, list(answer.headers.raw_items()), rest.read()


def check(head):
    ours = read(pools._Response, pools._Response._begin, head)
    assert ours == read(http.client.HTTPResponse, http.client.HTTPResponse.begin, head)


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("start", STARTS)
def test_each_line_means_what_it_means_to_http_client(start, line):
    for before, after in itertools.product((b"", b"X-First: 1\r\n"), (b"", b"X-Last: 2\r\n")):
        check(start + b"\r\n" + before + line + b"\r\n" + after + b"\r\nbody")


@given(
    start=some.sampled_from(STARTS),
    lines=some.lists(some.sampled_from(LINES) | some.binary(max_size=12), max_size=6),
    between=some.sampled_from([b"\r\n", b"\r\n", b"\n"]),
    end=some.sampled_from([b"\r\n", b"\n", b""]),
)
@example(start=b"HTTP/1.1 200 OK", lines=[b"X: y"] * 101, between=b"\r\n", end=b"\r\n")
@example(start=b"HTTP/1.1 200 OK", lines=[b"X: " + b"y" * 70_000], between=b"\r\n", end=b"\r\n")
def test_a_head_means_what_it_means_to_http_client(start, lines, between, end):
    check(between.join([start, *lines, b""]) + end + b"body")

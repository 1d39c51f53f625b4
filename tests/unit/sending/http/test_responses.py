"""Answers are read strictly: what counts as an answer, and when its end is beyond doubt."""

from __future__ import annotations

import http.client
import io

import pytest
from hypothesis import given
from hypothesis import strategies as some

from django_webhooks.sending.http.channels import MAX_HEAD_BYTES, Failed
from django_webhooks.sending.http.responses import MAX_HEADERS, Broken, Reader, Response

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
MAX = 1000


class Wire:
    """Hands out bytes in pieces, then ends."""

    def __init__(self, data, *, piece=16_384):
        self.data, self.piece, self.read = data, piece, 0

    def receive(self):
        part = self.data[self.read : self.read + self.piece]
        self.read += len(part)
        return part


def read(data, *, piece=16_384, max_bytes=MAX):
    return Reader(Wire(data, piece=piece).receive).response(max_bytes=max_bytes)


LENGTH = OK + b"Content-Length: 2\r\n\r\nok"
#: What is answered, what is made of it, and whether its end is proven.
ANSWERS = {
    "length": (LENGTH, (200, b"ok"), True),
    "no body": (OK + b"Content-Length: 0\r\n\r\n", (200, b""), True),
    "no phrase": (b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", (200, b""), True),
    "phrase of bytes": (b"HTTP/1.1 200 \xfcber\r\nContent-Length: 0\r\n\r\n", (200, b""), True),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", (204, b""), True),
    "204 with length 0": (b"HTTP/1.1 204 X\r\nContent-Length: 0\r\n\r\n", (204, b""), True),
    "304": (b"HTTP/1.1 304 Not Modified\r\n\r\n", (304, b""), True),
    "chunked": (CHUNKED + b"2\r\nok\r\n0\r\n\r\n", (200, b"ok"), True),
    "chunked in capitals": (
        OK + b"transfer-encoding: CHUNKED\r\n\r\n2\r\nok\r\n0\r\n\r\n", (200, b"ok"), True,
    ),
    "trailers": (CHUNKED + b"A\r\n0123456789\r\n0\r\nX: y\r\n\r\n", (200, b"0123456789"), True),
    "100 before": (b"HTTP/1.1 100 Continue\r\n\r\n" + LENGTH, (200, b"ok"), True),
    "102 and 103 before": (
        b"HTTP/1.1 102 P\r\n\r\nHTTP/1.1 103 Early\r\nLink: </a>\r\n\r\n" + LENGTH,
        (200, b"ok"), True,
    ),
    "199 before, with a length": (
        b"HTTP/1.1 199 X\r\nContent-Length: 5\r\n\r\n" + LENGTH, (200, b"ok"), True,
    ),
    "as long as the bound": (
        OK + b"Content-Length: 1000\r\n\r\n" + b"x" * MAX, (200, b"x" * MAX), True,
    ),
    # Surplus belongs to nobody.
    "surplus after a length": (LENGTH + b"x", (200, b"ok"), False),
    "surplus after 204": (b"HTTP/1.1 204 X\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", (204, b""), False),
    "surplus after chunks": (CHUNKED + b"0\r\n\r\n\r\n", (200, b""), False),
    "204 with a body": (b"HTTP/1.1 204 X\r\nContent-Length: 2\r\n\r\n", (204, b""), False),
    "204 with chunks": (b"HTTP/1.1 204 X\r\nTransfer-Encoding: chunked\r\n\r\n", (204, b""), False),
    "304 with a length": (b"HTTP/1.1 304 X\r\nContent-Length: 2\r\n\r\n", (304, b""), False),
    "101": (b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\nsurplus", (101, b""), False),
    "101 alone": (b"HTTP/1.1 101 Switching\r\n\r\n", (101, b""), False),
    # What ends with the connection.
    "close": (OK + b"Connection: close\r\nContent-Length: 2\r\n\r\nok", (200, b"ok"), False),
    "close among others": (
        OK + b"Connection: Keep-Alive, CLOSE\r\nContent-Length: 2\r\n\r\nok", (200, b"ok"), False,
    ),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", (200, b"ok"), False),
    "no framing": (OK + b"\r\nto the end", (200, b"to the end"), False),
    "too long": (OK + b"Content-Length: 1001\r\n\r\n" + b"x" * 1001, (200, b"x" * MAX), False),
    "a chunk too long": (CHUNKED + b"3e9\r\n" + b"x" * 1001, (200, b"x" * MAX), False),
    "cut": (OK + b"Content-Length: 5\r\n\r\nok", (200, b"ok"), False),
    "cut chunk": (CHUNKED + b"5\r\nok", (200, b"ok"), False),
    "cut trailers": (CHUNKED + b"0\r\nX: y\r\n", (200, b""), False),
    # Lengths that two could read differently.
    "plus": (OK + b"Content-Length: +2\r\n\r\nok", (200, b"ok"), False),
    "minus": (OK + b"Content-Length: -2\r\n\r\nok", (200, b"ok"), False),
    "underscore": (OK + b"Content-Length: 1_0\r\n\r\nok", (200, b"ok"), False),
    "hexadecimal": (OK + b"Content-Length: 0x2\r\n\r\nok", (200, b"ok"), False),
    "a space within": (OK + b"Content-Length: 1 0\r\n\r\nok", (200, b"ok"), False),
    "digits elsewhere": (OK + b"Content-Length: \xb2\r\n\r\nok", (200, b"ok"), False),
    "empty length": (OK + b"Content-Length:\r\n\r\nok", (200, b"ok"), False),
    "space before the colon": (OK + b"Content-Length : 1\r\n\r\nok", (200, b"ok"), False),
    "endless digits": (OK + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\nok", (200, b"ok"), False),
    "a length twice, the same": (
        OK + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nok", (200, b"ok"), False,
    ),
    "a list of lengths, the same": (OK + b"Content-Length: 2, 2\r\n\r\nok", (200, b"ok"), False),
    "two lengths": (
        OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nok", (200, b"ok"), False,
    ),
    "a list of two lengths": (OK + b"Content-Length: 1,2\r\n\r\nok", (200, b"ok"), False),
    "a folded length": (OK + b"Content-Length:\r\n 2\r\n\r\nok", (200, b"ok"), False),
    # Codings that two could read differently.
    "length and chunked": (
        OK + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        (200, b"ok"), False,
    ),
    "gzip, chunked, and a length": (
        OK + b"Transfer-Encoding: gzip, chunked\r\nContent-Length: 99\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        (200, b"ok"), False,
    ),
    "two codings": (
        OK + b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        (200, b"ok"), False,
    ),
    "chunked twice": (
        OK + b"Transfer-Encoding: chunked\r\n" * 2 + b"\r\n2\r\nok\r\n0\r\n\r\n",
        (200, b"ok"), False,
    ),
    "chunked is not the last": (
        OK + b"Transfer-Encoding: chunked, gzip\r\n\r\nok", (200, b"ok"), False,
    ),
    "identity": (
        OK + b"Transfer-Encoding: identity\r\nContent-Length: 1\r\n\r\nok", (200, b"ok"), False,
    ),
    "another word": (
        OK + b"Transfer-Encoding: xchunked\r\nContent-Length: 1\r\n\r\nok", (200, b"ok"), False,
    ),
    "a vertical tab": (
        OK + b"Transfer-Encoding: \x0bchunked\r\nContent-Length: 1\r\n\r\nok", (200, b"ok"), False,
    ),
    "chunked, folded": (
        OK + b"Transfer-Encoding:\r\n chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", (200, b"ok"), False,
    ),
    "chunked in HTTP/1.0": (
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        (200, b"ok"), False,
    ),
    # Chunks that two could read differently.
    "an extension": (CHUNKED + b"2;a=b\r\nok\r\n0\r\n\r\n", (200, b"ok"), False),
    "a space after the size": (CHUNKED + b"2 \r\nok\r\n0\r\n\r\n", (200, b"ok"), False),
    "LF alone after the size": (CHUNKED + b"2\nok\r\n0\r\n\r\n", (200, b"ok"), False),
    "LF alone after a chunk": (CHUNKED + b"2\r\nok\n0\r\n\r\n", (200, b"ok"), False),
    "a chunk longer than it says": (CHUNKED + b"1\r\nok\r\n0\r\n\r\n", (200, b"o"), False),
    "plus in a chunk": (CHUNKED + b"+2\r\nok\r\n0\r\n\r\n", (200, b""), False),
    "0x in a chunk": (CHUNKED + b"0x2\r\nok\r\n0\r\n\r\n", (200, b""), False),
    "minus in a chunk": (CHUNKED + b"-2\r\nok\r\n0\r\n\r\n", (200, b""), False),
    "an endless size": (CHUNKED + b"0" * 17 + b"2\r\nok\r\n0\r\n\r\n", (200, b""), False),
    "a malformed trailer": (CHUNKED + b"0\r\nno colon\r\n\r\n", (200, b""), False),
    # Heads that are no orderly ones leave the status as it is.
    "LF alone": (b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok", (200, b"ok"), False),
    "no colon": (OK + b"no colon\r\nContent-Length: 2\r\n\r\nok", (200, b"ok"), False),
    "no name": (OK + b": x\r\nContent-Length: 2\r\n\r\nok", (200, b"ok"), False),
    "CR in a value": (OK + b"X: a\rb\r\nContent-Length: 2\r\n\r\nok", (200, b"ok"), False),
    "NUL in a value": (OK + b"X: a\0b\r\nContent-Length: 2\r\n\r\nok", (200, b"ok"), False),
    "a fold": (OK + b"X: a\r\n b\r\nContent-Length: 2\r\n\r\nok", (200, b"ok"), False),
    "a fold of nothing": (OK + b" b\r\nContent-Length: 2\r\n\r\nok", (200, b"ok"), False),
    "a name of bytes": (OK + b"\xe4: x\r\nContent-Length: 2\r\n\r\nok", (200, b"ok"), False),
}  # fmt: skip


@pytest.mark.parametrize("row", ANSWERS)
@pytest.mark.parametrize("piece", [1, 3, 16_384], ids=["drop by drop", "in threes", "at once"])
def test_an_answer_is_read_and_its_end_is_proven_or_doubted(row, piece):
    data, told, is_over = ANSWERS[row]

    found = read(data, piece=piece)

    assert (found.status, found.body) == told
    # Surplus that has not been received is found on the socket: see test_answers_of_others.
    assert found.is_over == is_over or (row.startswith("surplus") and piece < 16_384)


@pytest.mark.parametrize(
    "line",
    [
        b"HTTP/1.1 +200 OK", b"HTTP/1.1  200 OK", b"HTTP/1.1 2 0 OK", b"HTTP/1.1 0200 OK",
        b"HTTP/1.1 20 OK", b"HTTP/1.1 2000 OK", b"HTTP/1.1 -20 OK", b"HTTP/1.1 2_0 OK",
        b"HTTP/1.1 099 Odd", b"HTTP/1.1 000 Odd", b"HTTP/1.1 200OK", b"HTTP/1.1\t200 OK",
        "HTTP/1.1 ２００ OK".encode(), "HTTP/1.1 ٢٠٠ OK".encode(), b"HTTP/1.1 \xb2\xb20 OK",
        b"HTTP/1.1 2e2 OK", b"HTTP/1.1 0x2 OK", b"HTTP/1.1 abc OK", b"HTTP/1.1 ", b"HTTP/1.1",
        b"HTTP/2 200 OK", b"HTTP/2.0 200 OK", b"HTTP/0.9 200 OK", b"HTTP/1.10 200 OK",
        b"HTTP/1 200 OK", b"HTTP/+1.1 200 OK", b"http/1.1 200 OK", b"ICY 200 OK", b"200 OK",
        b" HTTP/1.1 200 OK", b"\xef\xbb\xbfHTTP/1.1 200 OK", b"HTTP/1.1 200 O\0K",
        b"HTTP/1.1 200 O\rK", b"", b"\r", b"<html>", b"\0",
    ],
)  # fmt: skip
def test_a_status_line_is_taken_by_the_letter(line):
    with pytest.raises(Failed) as caught:
        read(line + b"\r\nContent-Length: 0\r\n\r\n")

    assert caught.value.answer.reason == "protocol"


@pytest.mark.parametrize("data", [b"\x16\x03\x01", b"hello", b"HTTP/2", b"\0"])
def test_what_ends_within_a_line_that_is_no_http_is_none(data):
    with pytest.raises(Failed):
        read(data)


@pytest.mark.parametrize(
    "data", [b"", b"HT", b"HTTP/1.1 20", OK, OK + b"X: y\r\n", b"HTTP/1.1 103 E\r\n\r\n"]
)
def test_what_ends_within_the_head_is_a_connection_that_broke(data):
    with pytest.raises(Broken):
        read(data)


@pytest.mark.parametrize(
    "endless",
    [
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
        OK + b"X: " + b"x" * 5_000_000,
        b"HTTP/1.1 200 " + b"x" * 5_000_000,
        OK + b"X: y\r\n",
        OK + b"X: 1\r\n" * (MAX_HEADERS + 1),
    ],
    ids=["100s", "103s", "a header", "a phrase", "a few headers again", "many headers"],
)
def test_a_head_without_end_is_no_answer_and_is_not_read_to_its_end(endless):
    wire = Wire(endless * (1 + 5_000_000 // len(endless)))

    with pytest.raises(Failed) as caught:
        Reader(wire.receive).response(max_bytes=MAX)

    assert caught.value.answer.reason == "protocol"
    assert wire.read <= MAX_HEAD_BYTES + 2 * wire.piece


def test_as_many_headers_as_are_allowed_are_read():
    found = read(OK + b"X: 1\r\n" * (MAX_HEADERS - 1) + b"Content-Length: 0\r\n\r\n")

    assert found.is_over


def test_answers_follow_each_other_on_a_connection():
    reader = Reader(Wire(LENGTH + CHUNKED + b"1\r\nx\r\n0\r\n\r\n").receive)

    found = [reader.response(max_bytes=MAX).body for _ in range(2)]

    assert found == [b"ok", b"x"]
    assert reader.is_empty


def test_headers_are_one_list_each_without_the_space_around_them():
    found = read(OK + b"X-A:\t1 \r\nx-a: 2\r\nEmpty:\r\nContent-Length: 0\r\n\r\n")

    assert found.headers == {"x-a": "1, 2", "empty": "", "content-length": "0"}


NAMES = some.from_regex(r"X-[A-Za-z0-9-]{1,8}", fullmatch=True)
VALUES = some.from_regex(r"([!-~]([ -~]{0,20}[!-~])?)?", fullmatch=True)


class Socket:
    """What http.client asks of a socket."""

    def __init__(self, data):
        self.data = data

    def makefile(self, mode):
        return io.BytesIO(self.data)


@given(
    status=some.integers(200, 599).filter(lambda one: one not in (204, 304)),
    headers=some.lists(some.tuples(NAMES, VALUES), max_size=6),
    chunks=some.none() | some.lists(some.binary(min_size=1, max_size=40), max_size=5),
    body=some.binary(max_size=80),
    piece=some.integers(1, 50),
)
def test_an_orderly_answer_is_what_http_client_makes_of_it(status, headers, chunks, body, piece):
    lines = [f"HTTP/1.1 {status} X", *(f"{name}: {value}" for name, value in headers)]
    if chunks is None:
        lines.append(f"Content-Length: {len(body)}")
        framed = body
    else:
        lines.append("Transfer-Encoding: chunked")
        framed = b"".join(b"%x\r\n%s\r\n" % (len(one), one) for one in [*chunks, b""])
    data = "\r\n".join([*lines, "", ""]).encode() + framed
    other = http.client.HTTPResponse(Socket(data), method="POST")
    other.begin()

    found = read(data, piece=piece)

    assert (found.status, found.body) == (other.status, other.read())
    for name, value in found.headers.items():
        assert value == ", ".join(one.strip() for one in other.headers.get_all(name))
    assert found.is_over


PIECES = some.sampled_from(
    [
        b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 103 E\r\n\r\n", b"HTTP/1.0 500 X\r\n", b"\r\n", b"\n",
        b"Content-Length: 3\r\n", b"Content-Length: 99999\r\n", b"Transfer-Encoding: chunked\r\n",
        b"3\r\nabc\r\n", b"0\r\n\r\n", b"0\r\n", b"fff\r\n", b" fold\r\n", b"X: y\r\n", b"abc",
        b"Connection: close\r\n", b"\0", b";a=b", b"HTTP/1.1 ",
    ]
) | some.binary(max_size=8)  # fmt: skip


@given(pieces=some.lists(PIECES, max_size=12), size=some.integers(1, 20))
def test_whatever_comes_is_an_answer_or_a_reason(pieces, size):
    data = b"".join(pieces)
    wire = Wire(data, piece=size)
    try:
        found = Reader(wire.receive).response(max_bytes=50)
    except (Failed, Broken):
        return

    assert isinstance(found, Response)
    assert 200 <= found.status <= 999 or found.status == 101
    assert len(found.body) <= 50
    if found.is_over:
        # Pieces of another size change nothing.
        assert read(data[: wire.read], max_bytes=50) == found

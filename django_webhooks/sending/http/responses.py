"""Responses: answers are read off a connection strictly, and their end is proven or doubted.

The status line decides what becomes of a delivery, so it is taken by the letter of RFC 9112 section
4, and interim answers (1xx) are read past. Errors after it (a malformed header, lengths that
contradict each other, a body that breaks off) leave the status as it is, because the receiver may
have kept the event; but the connection is not used again, because nobody knows where that answer
ends.

Why not h11, which is well kept: it raises where a header or a length is malformed, and its caller
never learns the status; the event would be sent again to a receiver that has it.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from ...policies.reasons import Reason
from .channels import MAX_FRAMING_BYTES, MAX_HEAD_BYTES, Failed

#: Headers, or trailers, of one answer at the most.
MAX_HEADERS = 100

#: RFC 9112 section 4: one space each, three digits, and a phrase that may be missing.
_STATUS = re.compile(rb"HTTP/1\.([0-9]) ([1-9][0-9]{2})(?: ([\t\x20-\x7e\x80-\xff]*))?")
_VERSION = b"HTTP/1."
#: RFC 9110 section 5.6.2, and what section 5.5 allows in no value.
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
#: RFC 9112 section 7.1: hexadecimal digits, then extensions.
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,16})([ \t]*(?:;.*)?)", re.S)
_LENGTH = re.compile(r"[0-9]{1,18}")


@dataclass(slots=True, kw_only=True)
class Response:
    """An answer: status, headers by lower-case name, the beginning of the body, encoded as it came.

    ``is_whole`` says that the body is neither cut nor broken off. ``is_over`` says that nobody
    could think the answer longer or shorter: what comes next on its connection is no part of it.
    """

    status: int
    headers: dict[str, str]
    body: bytes = b""
    is_whole: bool = False
    is_over: bool = False


class _End(enum.Enum):
    """How a body ended."""

    #: By the letter of its framing, which can be read in one way only.
    PROVEN = "proven"
    #: By its framing, or with the connection; another reader might think it longer or shorter.
    DOUBTFUL = "doubtful"
    #: It was broken off, is malformed, or longer than what is read.
    CUT = "cut"


class Broken(ConnectionError):
    """The connection ended within an answer."""


class Reader:
    """Reads the answers of one connection."""

    def __init__(self, receive: Callable[[], bytes]) -> None:
        """Read by ``receive``, which returns some bytes, or none at the end of the connection."""
        self._receive = receive
        #: What was received and is not part of what was read so far.
        self._buffer = bytearray()
        self._lines_left = 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing was received beyond what was read."""
        return not self._buffer

    def response(self, *, max_bytes: int, has_body: bool = True) -> Response:
        """Return the next final answer with at most ``max_bytes`` of its body.

        ``has_body`` is False for the answer to a HEAD, whose headers speak of another body.

        Raise Failed where it is no HTTP or its head is too long, and OSError where the connection
        ends or the time is up before its head is whole.
        """
        minor, status, _, lines, is_orderly = self._head()
        headers: dict[str, str] = {}
        for name, value in lines:
            # RFC 9110 section 5.3: what is repeated is one list.
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        response = Response(status=status, headers=headers)
        body, end = bytearray(), _End.CUT if has_body else _End.DOUBTFUL
        # The status has been read, and it decides.
        with suppress(OSError, Failed):
            if has_body:
                end = self._body(body, status, lines, max_bytes=max_bytes)
        response.body, response.is_whole = bytes(body), end is not _End.CUT
        closes = minor == 0 or "close" in _tokens(headers.get("connection", ""))
        response.is_over = end is _End.PROVEN and is_orderly and self.is_empty and not closes
        return response

    def answer_to_connect(self) -> tuple[int, str]:
        """Return status and phrase of the answer to a CONNECT, whose success has no body."""
        _, status, phrase, _, _ = self._head()
        return status, phrase

    def _head(self) -> tuple[int, int, str, list[tuple[str, str]], bool]:
        """Return minor version, status, phrase, headers, and whether all of it is by the letter."""
        self._lines_left = MAX_HEAD_BYTES
        while True:
            minor, status, phrase, is_plain = self._status()
            headers, is_orderly = self._headers()
            # Interim answers are none yet (RFC 9110 section 15.2). After 101 there is no HTTP, and
            # nobody asked for that.
            if not 100 <= status < 200 or status == 101:
                return minor, status, phrase, headers, is_plain and is_orderly

    def _status(self) -> tuple[int, int, str, bool]:
        try:
            line, is_plain = self._line()
        except Broken:
            if not self._buffer.startswith(_VERSION[: len(self._buffer)]):
                raise _not_http(bytes(self._buffer)) from None
            raise
        found = _STATUS.fullmatch(line)
        if found is None:
            raise _not_http(line)
        return int(found[1]), int(found[2]), (found[3] or b"").decode("latin-1"), is_plain

    def _headers(self) -> tuple[list[tuple[str, str]], bool]:
        """Return headers, or trailers, without lines that are none, and whether all are orderly."""
        found: list[tuple[str, str]] = []
        is_orderly = True
        for _ in range(MAX_HEADERS + 1):
            line, is_plain = self._line()
            is_orderly &= is_plain
            if not line:
                return found, is_orderly
            name, colon, value = line.partition(b":")
            if line[:1] in b" \t":
                # RFC 9112 section 5.2: a folded line goes on with the value before it.
                is_orderly = False
                if found:
                    whole = f"{found[-1][1]} {line.strip().decode('latin-1')}"
                    found[-1] = (found[-1][0], whole)
            elif not colon or not _NAME.fullmatch(name):
                is_orderly = False
            else:
                is_orderly = is_orderly and not _CONTROL.search(value)
                text = value.strip(b" \t").decode("latin-1")
                found.append((name.decode("ascii").lower(), text))
        raise Failed(Reason.PROTOCOL, "The answer has too many headers.")

    def _body(
        self,
        body: bytearray,
        status: int,
        headers: list[tuple[str, str]],
        *,
        max_bytes: int,
    ) -> _End:
        """Read the body as RFC 9112 section 6.3 frames it; say how it ended."""
        codings = [value for name, value in headers if name == "transfer-encoding"]
        lengths = [value for name, value in headers if name == "content-length"]
        if status in (204, 304) or status < 200:
            # Whoever claims a body where there can be none may send one.
            is_proven = status != 101 and not codings and lengths in ([], ["0"])
            return _End.PROVEN if is_proven else _End.DOUBTFUL
        if codings:
            if _tokens(", ".join(codings))[-1] != "chunked":
                return self._rest(body, max_bytes)
            end = self._chunks(body, max_bytes)
            is_alone = [one.lower() for one in codings] == ["chunked"] and not lengths
            return _End.DOUBTFUL if end is _End.PROVEN and not is_alone else end
        found = {one.strip(" \t") for value in lengths for one in value.split(",")}
        if len(found) != 1 or not _LENGTH.fullmatch(length := found.pop()):
            return self._rest(body, max_bytes)
        wanted = int(length)
        self._some(body, min(wanted, max_bytes))
        # An answer that repeats a length, even the same, was written by two.
        if wanted > max_bytes:
            return _End.CUT
        return _End.PROVEN if lengths == [length] else _End.DOUBTFUL

    def _chunks(self, body: bytearray, max_bytes: int) -> _End:
        """Read chunks and trailers; proven where all of them were read, and are by the letter."""
        is_plain, self._lines_left = True, MAX_FRAMING_BYTES
        while True:
            line, is_ended_well = self._line()
            found = _CHUNK.fullmatch(line)
            if found is None:
                return _End.CUT
            is_plain = is_plain and is_ended_well and not found[2]
            size = int(found[1], 16)
            if not size:
                break
            room = max_bytes - len(body)
            self._some(body, min(size, room))
            if size > room:
                return _End.CUT
            end, is_ended_well = self._line()
            if end:
                return _End.CUT
            is_plain = is_plain and is_ended_well
        _, is_orderly = self._headers()
        return _End.PROVEN if is_plain and is_orderly else _End.DOUBTFUL

    def _rest(self, body: bytearray, max_bytes: int) -> _End:
        """Read until the connection ends, or enough was read; its end proves nothing."""
        try:
            self._some(body, max_bytes)
        except Broken:
            return _End.DOUBTFUL
        return _End.CUT

    def _some(self, body: bytearray, count: int) -> None:
        """Move as many bytes to the body. Raise Broken where there are fewer."""
        while count:
            if not self._buffer:
                self._more()
            part = self._buffer[:count]
            del self._buffer[:count]
            body += part
            count -= len(part)

    def _line(self) -> tuple[bytes, bool]:
        """Return the next line without its end, and whether that was CR and LF."""
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0:
            searched = len(self._buffer)
            if searched > self._lines_left:
                break
            self._more()
        if end < 0 or end >= self._lines_left:
            raise Failed(Reason.PROTOCOL, "The headers of the answer are too long.")
        self._lines_left -= end + 1
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        if line.endswith(b"\r"):
            return line[:-1], True
        # RFC 9112 section 2.2 lets LF alone end a line; others may read that differently.
        return line, False

    def _more(self) -> None:
        data = self._receive()
        if not data:
            raise Broken("the connection ended within the answer")
        self._buffer += data


def _not_http(line: bytes) -> Failed:
    # Whole: half of a secret that it repeats could not be masked.
    return Failed(Reason.PROTOCOL, f"The answer is not HTTP ({line.decode('latin-1')}).")


def _tokens(value: str) -> list[str]:
    return [one.strip(" \t").lower() for one in value.split(",")]

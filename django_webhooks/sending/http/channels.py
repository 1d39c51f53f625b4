"""Channels: bytes to and from a receiver, in the clear or through TLS, within the limits of a call.

A call is one request under way, with its deadline, its bytes, and why it came to nothing.

TLS works on buffers in memory (``ssl.MemoryBIO``), and this module moves each byte between them and
the socket. So the deadline and the bound of bytes hold for what comes from the network, whatever
TLS makes of it, and alike with gevent: OpenSSL by itself would go on reading within one call for as
long as a server sends records without content.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

from ...policies.reasons import Reason

Found = TypeVar("Found")

#: Bytes of an answer before its body, interim answers included.
MAX_HEAD_BYTES = 65_536
#: Bytes of an answer beside its head and its body: chunk sizes and their extensions, trailers, TLS.
MAX_FRAMING_BYTES = 65_536
#: Bytes received at once.
RECEIVED_AT_ONCE = 16_384
#: Bytes after which other greenlets have their turn, where receiving never has to wait.
_YIELD_EVERY = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class NoAnswer:
    """Why there is no answer: a short code, and a detail for a person."""

    reason: Reason
    detail: str = field(default="", repr=False)


class Failed(Exception):
    """Ends a call; carries what is told of it."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(reason, detail)
        self.answer = NoAnswer(reason=reason, detail=detail)


@dataclass(slots=True, kw_only=True)
class Call:
    """The limits of one request: a moment of the monotonic clock, bytes from the wire, a tenant.

    ``tenant`` is whose request it is; shared resources are divided among tenants. ``max_bytes`` of
    the body are wanted; with head and framing they are all that is ever read, whatever is sent.
    """

    deadline: float
    tenant: Hashable = None
    max_bytes: int = 0
    #: Whether the answer may have a body: one to a HEAD has none, whatever its headers say.
    has_body: bool = True
    #: Bytes received so far, as they come from the network, that is before TLS opens them.
    received: int = 0
    _bytes_left: int = field(init=False)
    _until_yield: int = field(init=False, default=_YIELD_EVERY)

    def __post_init__(self) -> None:
        """Set the one bound of what is read."""
        self._bytes_left = MAX_HEAD_BYTES + self.max_bytes + MAX_FRAMING_BYTES

    def time_left(self) -> float:
        """Return the seconds left, more than 0. Raise TimeoutError where there are none."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the deadline of the attempt has passed")
        return left

    def room(self) -> int:
        """Return how many bytes may be received now. Raise Failed where the bound is reached."""
        if self._bytes_left <= 0:
            raise Failed(Reason.PROTOCOL, "The answer is too long.")
        return min(RECEIVED_AT_ONCE, self._bytes_left)

    def count(self, received: int) -> None:
        """Count what was received, and let others have their turn now and then."""
        self.received += received
        self._bytes_left -= received
        self._until_yield -= received
        if self._until_yield <= 0:
            self._until_yield = _YIELD_EVERY
            # With gevent, a socket that always has data would never leave the turn to others.
            time.sleep(0)


def short(error: BaseException | None) -> str:
    """Return what an error says, uncut: half of a secret that it quotes could not be masked."""
    return str(getattr(error, "strerror", None) or str(error) or type(error).__name__).strip()


class Channel:
    """A connected socket."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    def send(self, data: bytes, call: Call) -> None:
        """Send all of it. Raise OSError where that fails, TimeoutError at the deadline."""
        left, sent = call.time_left(), 0
        if self.sock.gettimeout() == 0:
            # Mostly all of it goes at once; to wait takes three calls of the system, not one.
            with suppress(BlockingIOError):
                sent = self.sock.send(data)
        if sent < len(data):
            self.sock.settimeout(left)
            self.sock.sendall(memoryview(data)[sent:])

    def receive(self, call: Call) -> bytes:
        """Return the next bytes, none at the end. Raise OSError, or Failed at the bound."""
        size = call.room()
        self.sock.settimeout(call.time_left())
        data = self.sock.recv(size)
        call.count(len(data))
        return data

    def is_quiet(self) -> bool:
        """Say whether the other side has neither sent anything that is unread, nor hung up."""
        try:
            self.sock.settimeout(0)
            self.sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def close(self) -> None:
        """Hang up."""
        self.sock.close()


class TLSChannel(Channel):
    """TLS over a socket."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, host: str) -> None:
        super().__init__(sock)
        self._received, self._to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._received, self._to_send, server_hostname=host)

    def shake_hands(self, call: Call) -> None:
        """Agree on keys, and verify who the server is. Raise ssl.SSLError where that fails."""
        self._run(self._tls.do_handshake, call)

    def send(self, data: bytes, call: Call) -> None:
        """Send all of it."""
        self._run(lambda: self._tls.write(data), call)

    def receive(self, call: Call) -> bytes:
        """Return the next bytes that TLS has opened, none at the end."""
        try:
            return self._run(lambda: self._tls.read(RECEIVED_AT_ONCE), call)
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""

    def is_quiet(self) -> bool:
        """Say the same of what TLS holds, opened or not."""
        return not (self._tls.pending() or self._received.pending) and super().is_quiet()

    def _run(self, step: Callable[[], Found], call: Call) -> Found:
        while True:
            try:
                found = step()
            except ssl.SSLWantReadError:
                self._flush(call)
                if data := super().receive(call):
                    self._received.write(data)
                else:
                    self._received.write_eof()
            except ssl.SSLError:
                # The server learns why: an alert lies ready.
                with suppress(OSError):
                    self._flush(call)
                raise
            else:
                self._flush(call)
                return found

    def _flush(self, call: Call) -> None:
        if data := self._to_send.read():
            super().send(data, call)

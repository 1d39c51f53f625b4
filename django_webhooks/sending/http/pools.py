"""Connections kept per process, each for one tenant at one place, within one budget.

A connection is used again only where the answer before it is proven to be over (see ``responses``)
and nothing is left unread on it: neither in a buffer, nor in TLS, nor in the socket, which is asked
before it is used. Tenants share none: bytes that one's receiver sends late
could otherwise be taken for the answer to another, where both have receivers behind one server.

The standard library's ``http.client`` and urllib3 on top of it were here before. They decide by
themselves what an answer is (the first 1xx that is not 100, ``+200``), read trailers and chunk
extensions without bound, and keep a budget for each host alone; all of it could be changed through
private names only. Tools for observability replace their methods as well, and tell receivers and
strangers what is none of their business.
"""

from __future__ import annotations

import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Hashable
from contextlib import suppress
from dataclasses import dataclass

from ... import process_state
from ...policies.proxies import Proxy
from ...policies.reasons import Reason
from . import sockets, tls
from .channels import Call, Channel, Failed, TLSChannel
from .responses import Reader, Response
from .tls import Trust

#: Seconds after which a connection that nobody uses is closed: most servers close theirs after a
#: minute or more, so that ours is seldom used at the moment when they do.
IDLE_SECONDS = 30.0
#: Seconds between two looks for connections that are idle for too long, or were closed.
LOOK_EVERY = 2.0
#: Seconds past the deadline for an answer that came before its request was sent in full.
GRACE = 0.1


@dataclass(frozen=True, slots=True)
class Place:
    """The properties that requests must have in common to share a connection."""

    scheme: str
    host: str
    port: int
    proxy: Proxy | None
    trust: Trust
    tenant: Hashable


class Connection:
    """A connection to a receiver, to the proxy, or through it."""

    def __init__(self, place: Place, channel: Channel) -> None:
        self.place, self.channel = place, channel
        #: Requests that were answered on it.
        self.answers = 0
        self.idle_since = 0.0
        #: The call that is under way on it.
        self._call: Call | None = None
        self._reader = Reader(self._receive)

    def exchange(self, message: bytes, call: Call) -> Response:
        """Send a request and return the answer. Raise OSError or Failed where there is none."""
        self._call = call
        try:
            self.channel.send(message, call)
        except (BrokenPipeError, ConnectionResetError) as broken:
            return self._early(broken, call)
        except TimeoutError as error:
            if self.channel.is_quiet():
                raise
            # The answer has come, and the rest of the request was not wanted.
            call.deadline = time.monotonic() + GRACE
            return self._early(error, call)
        response = self._answer(call)
        self.answers += 1
        return response

    def _answer(self, call: Call) -> Response:
        return self._reader.response(max_bytes=call.max_bytes, has_body=call.has_body)

    def _early(self, error: OSError, call: Call) -> Response:
        """Return the answer of a receiver that did not want the rest of a request, or raise."""
        with suppress(OSError, Failed):
            response = self._answer(call)
            response.is_over = False
            return response
        raise error

    def is_clean(self) -> bool:
        """Say whether nothing is left on it, and the other side has not hung up."""
        return self._reader.is_empty and self.channel.is_quiet()

    def close(self) -> None:
        """Hang up."""
        self.channel.close()

    def _receive(self) -> bytes:
        assert self._call is not None  # nosec B101  # it is read within exchange() alone
        return self.channel.receive(self._call)


class Pool:
    """The idle connections of this process."""

    def __init__(self) -> None:
        self._slots = sockets.slots()
        self._slots.make_room = self.close_oldest
        #: By the moment since which they are idle, the longest first; and by their places.
        self._idle: OrderedDict[Connection, None] = OrderedDict()
        self._by_place: dict[Place, list[Connection]] = {}
        self._is_watched = False
        self._is_over = threading.Event()

    def __len__(self) -> int:
        return len(self._idle)

    def take(self, place: Place) -> Connection | None:
        """Return an idle connection to a place that nothing is left on, if there is one."""
        while True:
            with self._slots.lock:
                if not (found := self._by_place.get(place)):
                    return None
                # The one that was used last is the likeliest to be alive.
                one = found[-1]
                self._forget(one)
            if not self._is_expired(one) and one.is_clean():
                return one
            one.close()

    def keep(self, one: Connection) -> None:
        """Keep a connection whose answer is over; what is left on it is seen when it is used."""
        if self._is_over.is_set():
            one.close()
            return
        one.idle_since = time.monotonic()
        with self._slots.lock:
            self._idle[one] = None
            self._by_place.setdefault(one.place, []).append(one)
            # Its slot can be had by whoever waits for one.
            self._slots.lock.notify()
            is_watched, self._is_watched = self._is_watched, True
        if not is_watched:
            threading.Thread(target=self._watch, name="webhooks-connections", daemon=True).start()

    def close_oldest(self) -> bool:
        """Close the connection that is idle for the longest, and say whether there was one."""
        with self._slots.lock:
            if not self._idle:
                return False
            one = next(iter(self._idle))
            self._forget(one)
            one.close()
            return True

    def close_useless(self) -> None:
        """Close what is idle for too long, and what the other side has closed or written on."""
        with self._slots.lock:
            for one in list(self._idle):
                if self._is_expired(one) or not one.is_clean():
                    self._forget(one)
                    one.close()

    def close(self) -> None:
        """Keep nothing any more."""
        self._is_over.set()
        while self.close_oldest():
            pass

    def abandon(self) -> None:
        """Let go of what belongs to the process that this one was forked from.

        Its locks may be held by threads that are not here.
        """
        for one in list(self._idle):
            with suppress(OSError):
                socket.socket.close(one.channel.sock)

    def _is_expired(self, one: Connection) -> bool:
        return time.monotonic() - one.idle_since >= IDLE_SECONDS

    def _forget(self, one: Connection) -> None:
        del self._idle[one]
        found = self._by_place[one.place]
        found.remove(one)
        if not found:
            del self._by_place[one.place]

    def _watch(self) -> None:
        while True:
            self._is_over.wait(min(LOOK_EVERY, IDLE_SECONDS))
            self.close_useless()
            with self._slots.lock:
                # Connections in use will be idle in a moment.
                if self._is_over.is_set() or not self._slots.taken:
                    self._is_watched = False
                    return


def borrow(place: Place, call: Call, *, fresh: bool = False) -> Connection:
    """Return a connection to a place; a kept one where there is one, unless it is to be fresh.

    The connection goes back by :func:`give_back`. Raise OSError or Failed where none can be had.
    """
    if not fresh and (kept := _pool.take(place)):
        return kept
    return Connection(place, open_channel(place, call))


def give_back(connection: Connection, *, is_over: bool) -> None:
    """Keep a connection whose last answer is over; close any other."""
    if is_over:
        _pool.keep(connection)
    else:
        connection.close()


def open_channel(place: Place, call: Call) -> Channel:
    """Connect to a place: by TLS where its scheme says so, through the proxy where there is one.

    Plain requests are told to the proxy in full; it is not asked to connect for them.
    """
    context = tls.context(place.trust) if place.scheme == "https" else None
    if place.proxy is None:
        sock = sockets.connect_to(place.host, place.port, call)
    else:
        sock = sockets.connect_to_proxy(place.proxy.host, place.proxy.port, call)
    try:
        if context is None:
            return Channel(sock)
        if place.proxy is not None:
            ask_to_connect(Channel(sock), place, call)
        channel = TLSChannel(sock, context, place.host)
        channel.shake_hands(call)
    except BaseException:
        sock.close()
        raise
    return channel


def ask_to_connect(channel: Channel, place: Place, call: Call) -> None:
    """Ask the proxy for a tunnel (RFC 9110 section 9.3.6). Raise Failed where it refuses."""
    assert place.proxy is not None  # nosec B101
    target = f"[{place.host}]:{place.port}" if ":" in place.host else f"{place.host}:{place.port}"
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
    lines += [f"{name}: {value}" for name, value in place.proxy.headers.items()]
    channel.send("\r\n".join([*lines, "", ""]).encode("latin-1"), call)
    reader = Reader(lambda: channel.receive(call))
    status, phrase = reader.answer_to_connect()
    if not 200 <= status < 300:
        told = f"{status} {phrase}".strip()
        raise Failed(Reason.PROXY, f"The proxy does not connect to it ({told}).")
    if not reader.is_empty:
        # The rest would be read as if the receiver had sent it.
        raise Failed(Reason.PROXY, "The proxy sent more than its answer before the tunnel began.")


def count() -> tuple[int, int]:
    """Return how many connections this process has open, and how many of them are idle."""
    return sockets.slots().taken, len(_pool)


def start_afresh() -> None:
    """Close what is kept, and begin anew: the settings, or what is trusted, changed."""
    global _pool
    before = _pool
    _begin()
    before.close()


def _begin() -> None:
    global _pool
    sockets.start_afresh()
    tls.start_afresh()
    _pool = Pool()


def _after_fork() -> None:
    """Share no connection with another process."""
    before = _pool
    _begin()
    before.abandon()


_pool: Pool
_begin()
process_state.register(start_afresh, after_fork=_after_fork)

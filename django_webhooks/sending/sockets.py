"""Sockets under the deadline of an attempt, connected to addresses that may be called.

Each sets the time left before each of its operations. Names are looked up by a few threads, because
a look-up knows no time-out of its own.
"""

from __future__ import annotations

import collections
import errno
import queue
import socket
import ssl
import threading
import time
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

from ..policies.addresses import judge
from ..validators import url_rules

#: Addresses of one name that are tried at the most.
MAX_ADDRESSES = 4
#: Threads that look names up, and how many of them one tenant has at the most.
RESOLVERS = 32
RESOLVERS_PER_TENANT = 4
#: Bytes of an answer before its body, interim answers included.
MAX_HEAD_BYTES = 65_536
#: What says nothing of the receiver: this process or machine has no more to give.
_OUR_FAULTS = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EADDRNOTAVAIL}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NoAnswer:
    """Why there is no answer: a short code, and a detail for a person."""

    reason: str
    detail: str = ""


class Failed(Exception):
    """Leaves urllib3 and requests as it is, since they know nothing of it."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.answer = NoAnswer(reason=reason, detail=detail)


class _Current(threading.local):
    """The attempt that this thread makes."""

    deadline: float = 0.0
    is_reused: bool = False
    #: Whether no kept connection will do.
    wants_fresh: bool = False
    received: int = 0
    #: How much may be received before the body; None within it.
    head_ends: int | None = None
    #: Whose attempt it is; shared resources are divided among tenants.
    tenant: Hashable = None

    def time_left(self) -> float:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the deadline of the attempt has passed")
        return left


current = _Current()


class _Timed:
    """Set the time left before each operation of a socket."""

    settimeout: Any

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        self.settimeout(current.time_left())
        count: int = super().recv_into(*args, **kwargs)  # type: ignore[misc]  # the socket's
        current.received += count
        if current.head_ends is not None and current.received > current.head_ends:
            raise Failed("protocol", "The headers of the answer are too long.")
        return count

    def send(self, *args: Any, **kwargs: Any) -> int:
        self.settimeout(current.time_left())
        return super().send(*args, **kwargs)  # type: ignore[misc,no-any-return]  # the socket's

    def sendall(self, *args: Any, **kwargs: Any) -> None:
        self.settimeout(current.time_left())
        super().sendall(*args, **kwargs)  # type: ignore[misc]  # the socket's

    def _wait(self, *args: Any, **kwargs: Any) -> None:
        # gevent's alone: it waits afresh for each piece of a TLS record, however small.
        self.settimeout(current.time_left())
        super()._wait(*args, **kwargs)  # type: ignore[misc]  # the socket's


class Socket(_Timed, socket.socket):
    pass


class TLSSocket(_Timed, ssl.SSLSocket):
    def do_handshake(self, *args: Any, **kwargs: Any) -> None:
        self.settimeout(current.time_left())
        # gevent's takes no argument.
        super().do_handshake(*args, **kwargs)


@dataclass(frozen=True, slots=True)
class _Question:
    """A look-up for a tenant, who asked until a moment."""

    host: str
    port: int
    tenant: Hashable
    until: float
    replies: queue.SimpleQueue[Any]


class _Resolver:
    """Bound name look-ups, which know no time-out of their own, by a few daemon threads.

    One tenant has a few of them at the most, so that slow name servers of one cost others nothing.
    """

    def __init__(self) -> None:
        self._asked: queue.SimpleQueue[_Question] = queue.SimpleQueue()
        self._threads = 0
        self._lock = threading.Lock()
        #: What is under way, and what has to wait for it, by tenant.
        self._busy: collections.Counter[Hashable] = collections.Counter()
        self._waiting: dict[Hashable, collections.deque[_Question]] = {}

    def addresses(self, host: str, port: int) -> list[Any]:
        try:
            return socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
            )
        except (socket.gaierror, UnicodeError):
            pass
        replies: queue.SimpleQueue[Any] = queue.SimpleQueue()
        question = _Question(host, port, current.tenant, current.deadline, replies)
        with self._lock:
            if self._busy[question.tenant] < RESOLVERS_PER_TENANT:
                self._busy[question.tenant] += 1
                self._asked.put(question)
            else:
                self._waiting.setdefault(question.tenant, collections.deque()).append(question)
            if self._threads < min(RESOLVERS, self._busy.total()):
                self._threads += 1
                threading.Thread(target=self._run, name="webhooks-resolver", daemon=True).start()
        try:
            found = replies.get(timeout=current.time_left())
        except queue.Empty:
            raise Failed("dns", "The name was not resolved in time.") from None
        if isinstance(found, Exception):
            raise Failed("dns", f"The name does not resolve ({short(found)}).") from found
        if not found:
            raise Failed("dns", "The name has no address.")
        addresses: list[Any] = found
        return addresses

    def _run(self) -> None:
        while True:
            one = self._asked.get()
            try:
                if one.until > time.monotonic():
                    one.replies.put(socket.getaddrinfo(one.host, one.port, type=socket.SOCK_STREAM))
            except (OSError, UnicodeError) as error:
                one.replies.put(error)
            finally:
                self._next(one.tenant)

    def _next(self, tenant: Hashable) -> None:
        """Take the tenant's next question for which somebody still waits."""
        with self._lock:
            waiting = self._waiting.get(tenant)
            while waiting:
                one = waiting.popleft()
                if one.until > time.monotonic():
                    self._asked.put(one)
                    return
            self._waiting.pop(tenant, None)
            self._busy[tenant] -= 1
            if not self._busy[tenant]:
                del self._busy[tenant]


def connect_to(host: str, port: int) -> socket.socket:
    """Connect to an address of the host that may be called."""
    found = _resolver.addresses(host, port)
    opened = url_rules().opened
    for *_, address in found:
        # One forbidden answer refuses the name: it belongs to somebody who tries.
        if refusal := judge(str(address[0]), opened):
            raise Failed("blocked", refusal.message)
    return _connect(found)


def connect_to_proxy(host: str, port: int) -> socket.socket:
    """Connect to the proxy, which the deployer chose, so that its address is not judged."""
    try:
        return _connect(_resolver.addresses(host, port))
    except Failed as failed:
        # It says nothing of the receiver.
        raise Failed("internal", f"The proxy cannot be reached. {failed.answer.detail}") from failed


def _connect(found: list[Any]) -> socket.socket:
    failure: OSError | None = None
    for family, kind, protocol, _, address in found[:MAX_ADDRESSES]:
        sock = _open(family, kind, protocol)
        try:
            sock.settimeout(current.time_left())
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.connect(address)
        except OSError as error:
            sock.close()
            if error.errno in _OUR_FAULTS:
                raise Failed(
                    "internal", f"No connection could be opened ({short(error)})."
                ) from error
            failure = error
        else:
            return sock
    if isinstance(failure, TimeoutError):
        raise Failed("connect_timeout", "The connection was not accepted in time.") from failure
    raise Failed("connection", f"The connection failed ({short(failure)}).") from failure


def _open(family: int, kind: int, protocol: int) -> Socket:
    try:
        return Socket(family, kind, protocol)
    except OSError as error:
        raise Failed("internal", f"No socket could be opened ({short(error)}).") from error


def short(error: BaseException | None) -> str:
    message = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(message)[:200]


def start_afresh() -> None:
    """Share no thread with another process."""
    global _resolver
    _resolver = _Resolver()


_resolver: _Resolver
start_afresh()

"""Sockets, connected to addresses that may be called, within the budget of the process.

Several addresses of a name are tried as RFC 8305 section 5 has it: the next one a moment after the
one before, without giving that up; the first that accepts is taken. All are judged before any is
tried.
"""

from __future__ import annotations

import collections
import errno
import itertools
import os
import select
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

try:
    import resource
except ImportError:  # pragma: no cover  # Windows has no such limits.
    resource = None  # type: ignore[assignment]

from ...conf import settings
from ...policies.addresses import judge
from ...policies.reasons import Reason
from ...validators import url_rules
from .channels import Call, Failed, short
from .resolver import Resolver

#: Addresses of one name that are tried at the most.
MAX_ADDRESSES = 8
#: Seconds before the next address is tried beside the one before (RFC 8305 section 8).
STAGGER = 0.25
#: What says nothing of the receiver: this process or machine has no more to give.
OUR_FAULTS = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EADDRNOTAVAIL}
)


class Slots:
    """The budget of connections of this process: each socket has a slot from opening to closing."""

    def __init__(self) -> None:
        #: Guards the pool of idle connections too, which gives slots up where others need them.
        self.lock = threading.Condition(threading.RLock())
        self.taken = 0
        #: Closes the idle connection that was used the longest ago, and says whether there was one.
        self.make_room: Callable[[], bool] = lambda: False

    @property
    def limit(self) -> int:
        """How many sockets may be open at once: never more than half of the files allowed."""
        limit: int = settings.WEBHOOKS_MAX_CONNECTIONS
        if resource is not None:
            files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
            if files != resource.RLIM_INFINITY:
                limit = min(limit, files // 2)
        return max(1, limit)

    def take(self, call: Call) -> None:
        """Take a slot; wait for one until the deadline. Raise Failed where none gets free."""
        with self.lock:
            while not self.try_to_take():
                left = call.deadline - time.monotonic()
                if left <= 0 or not self.lock.wait(left):
                    raise Failed(
                        Reason.INTERNAL,
                        f"All {self.limit} connections of the process were in use until the "
                        "deadline; raise WEBHOOKS_MAX_CONNECTIONS or the limit of open files.",
                    )

    def try_to_take(self) -> bool:
        """Take a slot where one is free, or held by an idle connection; say whether that was so."""
        with self.lock:
            while self.taken >= self.limit:
                if not self.make_room():
                    return False
            self.taken += 1
            return True

    def give_back(self) -> None:
        """Let somebody else have a slot."""
        with self.lock:
            self.taken -= 1
            self.lock.notify()


class Socket(socket.socket):
    """A socket that gives its slot back when it is closed."""

    slots: Slots | None = None

    def close(self) -> None:
        """Close it, once."""
        given, self.slots = self.slots, None
        super().close()
        if given is not None:
            given.give_back()


def connect_to(host: str, port: int, call: Call) -> socket.socket:
    """Connect to an address of the host that may be called. Raise Failed where none does."""
    found = _resolver.addresses(host, port, call)
    opened = url_rules().opened
    for *_, address in found:
        # One forbidden answer refuses the name: it belongs to somebody who tries.
        if refusal := judge(str(address[0]), opened):
            raise Failed(Reason.BLOCKED, refusal.message)
    return _connect(found, call)


def connect_to_proxy(host: str, port: int, call: Call) -> socket.socket:
    """Connect to the proxy, which the deployer chose, so that its address is not judged."""
    try:
        return _connect(_resolver.addresses(host, port, call), call)
    except Failed as failed:
        # The proxy's failure says nothing of the receiver.
        raise Failed(
            Reason.INTERNAL, f"The proxy cannot be reached. {failed.answer.detail}"
        ) from failed


def _connect(found: list[Any], call: Call) -> socket.socket:
    try:
        return _Race(_in_turns(found)[:MAX_ADDRESSES], call).run()
    except TimeoutError as error:
        raise Failed(Reason.CONNECT_TIMEOUT, "The connection was not accepted in time.") from error
    except OSError as error:
        raise Failed(Reason.CONNECTION, f"The connection failed ({short(error)}).") from error


def _in_turns(found: list[Any]) -> list[Any]:
    """Let the families of addresses take turns, beginning with that of the first: RFC 8305, 4."""
    families: dict[Any, list[Any]] = {}
    for one in found:
        families.setdefault(one[0], []).append(one)
    turns = itertools.zip_longest(*families.values())
    return [one for turn in turns for one in turn if one is not None]


class _Race:
    """Connections to several addresses, of which the first that is accepted is taken."""

    def __init__(self, addresses: list[Any], call: Call) -> None:
        self._call = call
        self._waiting = collections.deque(addresses)
        self._pending: dict[int, Socket] = {}
        self._failure: OSError | None = None
        # Of a short time, too, each address has its part.
        self._stagger = min(STAGGER, call.time_left() / (len(addresses) + 1))
        self._next_at = 0.0

    def run(self) -> Socket:
        """Return the socket that was connected first. Raise OSError where none was."""
        try:
            while self._waiting or self._pending:
                left, now = self._call.time_left(), time.monotonic()
                if self._waiting and (not self._pending or now >= self._next_at):
                    self._next_at = now + self._stagger
                    if won := self._begin(self._waiting.popleft()):
                        return won
                elif won := self._first(min(left, self._next_at - now) if self._waiting else left):
                    return won
        finally:
            for one in self._pending.values():
                one.close()
        raise self._failure or OSError("there is no address")

    def _begin(self, found: Any) -> Socket | None:
        """Begin to connect to an address; return the socket where that is done at once."""
        family, kind, protocol, _, address = found
        try:
            sock = self._open(family, kind, protocol)
        except OSError as error:
            # A machine without IPv6 has no sockets for it.
            self._fail(error)
            return None
        try:
            if not self._waiting and not self._pending:
                # Alone, and the last: no need to look at it from time to time.
                sock.settimeout(self._call.time_left())
            else:
                sock.settimeout(0)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.connect(address)
        except BlockingIOError:
            self._pending[sock.fileno()] = sock
            return None
        except OSError as error:
            self._lose(sock, error)
            return None
        except BaseException:
            sock.close()
            raise
        return sock

    def _first(self, timeout: float) -> Socket | None:
        """Wait for the first that was accepted; leave those that were refused."""
        poll = select.poll()
        for key in self._pending:
            poll.register(key, select.POLLOUT)
        won = None
        for key, _ in poll.poll(max(0.0, timeout) * 1000):
            code = self._pending[key].getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                self._lose(self._pending.pop(key), OSError(code, os.strerror(code)))
            elif won is None:
                won = key
        return None if won is None else self._pending.pop(won)

    def _lose(self, sock: Socket, error: OSError) -> None:
        sock.close()
        self._fail(error)

    def _fail(self, error: OSError) -> None:
        if error.errno in OUR_FAULTS:
            raise Failed(
                Reason.INTERNAL, f"No connection could be opened ({short(error)})."
            ) from error
        self._failure, self._next_at = error, 0.0

    def _open(self, family: int, kind: int, protocol: int) -> Socket:
        if self._pending:
            if not _slots.try_to_take():
                # The one that waits the longest makes room: nobody else waits for what hangs.
                self._pending.pop(next(iter(self._pending))).close()
                _slots.take(self._call)
        else:
            _slots.take(self._call)
        try:
            sock = Socket(family, kind, protocol)
        except BaseException:
            _slots.give_back()
            raise
        sock.slots = _slots
        return sock


def slots() -> Slots:
    """Return the budget of this process."""
    return _slots


def start_afresh() -> None:
    """Share no thread and no budget with another process."""
    global _resolver, _slots
    _resolver, _slots = Resolver(), Slots()


_resolver: Resolver
_slots: Slots
start_afresh()

"""Names are looked up by a few threads, because a look-up knows no time-out of its own."""

from __future__ import annotations

import collections
import queue
import socket
import threading
import time
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

from ...policies.reasons import Reason
from .channels import Call, Failed, short

#: Threads that look names up, and how many of them one tenant has at the most.
RESOLVERS = 32
RESOLVERS_PER_TENANT = 4


@dataclass(frozen=True, slots=True)
class _Question:
    """A look-up for a tenant, who asked until a moment."""

    host: str
    port: int
    tenant: Hashable
    until: float
    replies: queue.SimpleQueue[Any]


class Resolver:
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

    def addresses(self, host: str, port: int, call: Call) -> list[Any]:
        """Return what getaddrinfo() tells of a host. Raise Failed where that is nothing."""
        try:
            return socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
            )
        except (socket.gaierror, UnicodeError):
            pass
        replies: queue.SimpleQueue[Any] = queue.SimpleQueue()
        question = _Question(host, port, call.tenant, call.deadline, replies)
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
            found = replies.get(timeout=call.time_left())
        except (queue.Empty, TimeoutError):
            raise Failed(Reason.DNS, "The name was not resolved in time.") from None
        if isinstance(found, Exception):
            raise Failed(Reason.DNS, f"The name does not resolve ({short(found)}).") from found
        if not found:
            raise Failed(Reason.DNS, "The name has no address.")
        addresses: list[Any] = found
        return addresses

    def _run(self) -> None:
        while True:
            one = self._asked.get()
            try:
                if one.until > time.monotonic():
                    one.replies.put(socket.getaddrinfo(one.host, one.port, type=socket.SOCK_STREAM))
            except Exception as error:  # A thread that ended would be missed by its tenant.
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

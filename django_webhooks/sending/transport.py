"""The only HTTP: one request under one deadline, over connections kept per process.

Every socket sets the time left of the attempt before each of its operations, so that a receiver
that drips bytes ends at the deadline like one that is silent. Nothing is read from the environment:
no proxies, no netrc, no cookies; no redirect is followed.
"""

from __future__ import annotations

import errno
import os
import queue
import re
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import certifi
import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from ..conf import settings
from ..policies import urls
from ..policies.addresses import Refusal, judge
from ..validators import url_rules

#: Addresses of one name that are tried at the most.
MAX_ADDRESSES = 4
_RESOLVERS = 8
#: What says nothing of the receiver: this process or machine has no more to give.
_OUR_FAULTS = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EADDRNOTAVAIL}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a receiver answered: status, headers by lower-case name, the beginning of the body."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoAnswer:
    """Why there is no answer: a short code, and a detail for a person."""

    reason: str
    detail: str = ""


# RFC 9110 section 5.5, in the encoding that http.client uses.
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*\Z")


class _Failed(Exception):
    """Leaves urllib3 and requests as it is, since they know nothing of it."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.answer = NoAnswer(reason=reason, detail=detail)


class _Current(threading.local):
    """The attempt that this thread makes."""

    deadline: float = 0.0
    is_reused: bool = False
    received: int = 0

    def time_left(self) -> float:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the deadline of the attempt has passed")
        return left


_current = _Current()


class _Timed:
    """Set the time left before each operation of a socket."""

    settimeout: Any

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        self.settimeout(_current.time_left())
        count: int = super().recv_into(*args, **kwargs)  # type: ignore[misc]  # the socket's
        _current.received += count
        return count

    def send(self, *args: Any, **kwargs: Any) -> int:
        self.settimeout(_current.time_left())
        return super().send(*args, **kwargs)  # type: ignore[misc,no-any-return]  # the socket's

    def sendall(self, *args: Any, **kwargs: Any) -> None:
        self.settimeout(_current.time_left())
        super().sendall(*args, **kwargs)  # type: ignore[misc]  # the socket's


class _Socket(_Timed, socket.socket):
    pass


class _TLSSocket(_Timed, ssl.SSLSocket):
    def do_handshake(self, block: bool = False) -> None:
        self.settimeout(_current.time_left())
        super().do_handshake(block)


class _Connection(HTTPConnection):
    _answers = 0

    def _new_conn(self) -> socket.socket:
        return _connect(self._dns_host, self.port)

    def putrequest(self, *args: Any, **kwargs: Any) -> None:
        _current.is_reused = self._answers > 0
        super().putrequest(*args, **kwargs)

    def getresponse(self) -> Any:
        response = super().getresponse()
        self._answers += 1
        return response

    def close(self) -> None:
        super().close()
        self._answers = 0


class _TLSConnection(_Connection, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TLSPool(HTTPSConnectionPool):
    ConnectionCls = _TLSConnection


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        self.tls = _tls_context()
        super().init_poolmanager(*args, ssl_context=self.tls, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _TLSPool}

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        # The context of the process verifies; loading the authorities again for each
        # connection, as requests does, takes 20 ms.
        conn.cert_reqs = "CERT_REQUIRED"


class _Resolver:
    """Bound name look-ups, which know no time-out of their own, by a few daemon threads."""

    def __init__(self) -> None:
        self._asked: queue.SimpleQueue[tuple[str, int, queue.SimpleQueue[Any]]] = (
            queue.SimpleQueue()
        )
        self._threads = 0
        self._lock = threading.Lock()

    def addresses(self, host: str, port: int) -> list[Any]:
        try:
            return socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
            )
        except (socket.gaierror, UnicodeError):
            pass
        with self._lock:
            if self._threads < _RESOLVERS:
                self._threads += 1
                threading.Thread(target=self._run, name="webhooks-resolver", daemon=True).start()
        replies: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._asked.put((host, port, replies))
        try:
            found = replies.get(timeout=_current.time_left())
        except queue.Empty:
            raise _Failed("dns", "The name was not resolved in time.") from None
        if isinstance(found, Exception):
            raise _Failed("dns", f"The name does not resolve ({_short(found)}).") from found
        if not found:
            raise _Failed("dns", "The name has no address.")
        addresses: list[Any] = found
        return addresses

    def _run(self) -> None:
        while True:
            host, port, replies = self._asked.get()
            try:
                replies.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
            except (OSError, UnicodeError) as error:
                replies.put(error)


def post(url: str, *, headers: Mapping[str, str], body: bytes, timeout: float) -> Answer | NoAnswer:
    """Send one POST and return the answer, or why there is none. Never raises.

    ``timeout`` is in seconds for everything together. At most WEBHOOKS_MAX_RESPONSE_BYTES of
    the body are read, still encoded; the connection is kept only after a complete answer.
    """
    return _exchange("POST", url, headers=headers, body=body, timeout=timeout)


def get(url: str, *, headers: Mapping[str, str], timeout: float) -> Answer | NoAnswer:
    """Send one GET, as :func:`post` does."""
    return _exchange("GET", url, headers=headers, body=None, timeout=timeout)


def connect(url: str, *, timeout: float) -> NoAnswer | None:
    """Connect, shake hands where the URL is https, and hang up; return why that failed, if it did.

    Never raises.
    """
    _current.deadline = time.monotonic() + timeout
    found = urls.parse(url, url_rules())
    if isinstance(found, Refusal):
        return _blocked(found)
    try:
        sock = _connect(found.host, found.port)
        with sock:
            if found.scheme == "https":
                with _adapter().tls.wrap_socket(sock, server_hostname=found.host) as wrapped:
                    wrapped.settimeout(_current.time_left())
        return None
    except _Failed as failed:
        return failed.answer
    except Exception as error:
        return _explain(error, url=url)


def _blocked(refusal: Refusal) -> NoAnswer:
    return NoAnswer(reason="blocked", detail=refusal.message)


def _exchange(
    method: str, url: str, *, headers: Mapping[str, str], body: bytes | None, timeout: float
) -> Answer | NoAnswer:
    _current.deadline = time.monotonic() + timeout
    for name, value in headers.items():
        # The error of http.client would quote the value, which may be a secret.
        if not _HEADER_VALUE.match(value):
            return NoAnswer(reason="internal", detail=f"The header {name} cannot be sent as it is.")
    found = urls.parse(url, url_rules())
    if isinstance(found, Refusal):
        return _blocked(found)
    request = requests.PreparedRequest()
    request.method, request.url, request.body = method, found.text, body
    request.headers = CaseInsensitiveDict(headers)
    if body is not None:
        request.headers["Content-Length"] = str(len(body))
    request.headers["Accept-Encoding"] = "identity"
    while True:
        _current.is_reused, _current.received = False, 0
        try:
            return _send(request)
        except _Failed as failed:
            return failed.answer
        except Exception as error:
            # A kept connection that the receiver had closed meanwhile says nothing about it.
            if _current.is_reused and not _current.received and _is_dropped(error):
                continue
            return _explain(error, url=url)


def _send(request: requests.PreparedRequest) -> Answer:
    response = _adapter().send(request, stream=True, timeout=_current.time_left(), verify=True)
    raw = response.raw
    body = b""
    try:
        body = raw.read(settings.WEBHOOKS_MAX_RESPONSE_BYTES, decode_content=False)
        is_complete = not raw.read(1, decode_content=False)
    except Exception:
        # The status has been read, and it decides.
        is_complete = False
    if not is_complete:
        raw.close()
    raw.release_conn()
    found = {name.lower(): value for name, value in response.headers.items()}
    return Answer(status=response.status_code, headers=found, body=body)


def _connect(host: str, port: int) -> socket.socket:
    failure: OSError | None = None
    found = _resolver.addresses(host, port)
    opened = url_rules().opened
    for *_, address in found:
        # One forbidden answer refuses the name: it belongs to somebody who tries.
        if refusal := judge(str(address[0]), opened):
            raise _Failed("blocked", refusal.message)
    for family, kind, protocol, _, address in found[:MAX_ADDRESSES]:
        sock = _open(family, kind, protocol)
        try:
            sock.settimeout(_current.time_left())
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.connect(address)
        except OSError as error:
            sock.close()
            if error.errno in _OUR_FAULTS:
                raise _Failed(
                    "internal", f"No connection could be opened ({_short(error)})."
                ) from error
            failure = error
        else:
            return sock
    if isinstance(failure, TimeoutError):
        raise _Failed("connect_timeout", "The connection was not accepted in time.") from failure
    raise _Failed("connection", f"The connection failed ({_short(failure)}).") from failure


def _open(family: int, kind: int, protocol: int) -> _Socket:
    try:
        return _Socket(family, kind, protocol)
    except OSError as error:
        raise _Failed("internal", f"No socket could be opened ({_short(error)}).") from error


def _explain(error: Exception, *, url: str) -> NoAnswer:
    chain = _chain(error)
    cause = _short(chain[-1])
    if urlsplit(url).path.strip("/") and urlsplit(url).path in cause:
        # The path of a URL may be a secret.
        cause = type(chain[-1]).__name__
    if any(isinstance(one, ssl.SSLError | urllib3.exceptions.SSLError) for one in chain):
        return NoAnswer(reason="tls", detail=f"TLS failed ({cause}).")
    if any(
        isinstance(one, TimeoutError | requests.Timeout | urllib3.exceptions.TimeoutError)
        for one in chain
    ):
        return NoAnswer(reason="timeout", detail="There was no answer in time.")
    if any(isinstance(one, ConnectionError) for one in chain):
        return NoAnswer(reason="connection", detail=f"The connection broke ({cause}).")
    return NoAnswer(reason="protocol", detail=f"The answer is not HTTP ({cause}).")


def _is_dropped(error: Exception) -> bool:
    # http.client.RemoteDisconnected, raised before the first byte of an answer, is one of these.
    dropped = (ConnectionResetError, BrokenPipeError, ConnectionAbortedError)
    return any(isinstance(one, dropped) for one in _chain(error))


def _chain(error: BaseException) -> list[BaseException]:
    """Return the error and what caused it, as far as requests and urllib3 tell, outermost first."""
    found: list[BaseException] = []
    todo: list[Any] = [error]
    while todo:
        one = todo.pop(0)
        if isinstance(one, BaseException) and one not in found:
            found.append(one)
            todo += [*one.args, getattr(one, "reason", None), one.__cause__]
    return found


def _short(error: BaseException | None) -> str:
    message = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(message)[:200]


def _tls_context() -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=certifi.where())
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # RFC 9525 section 2: a common name is no name of a server.
    context.hostname_checks_common_name = False
    context.sslsocket_class = _TLSSocket
    return context


def _adapter() -> _Adapter:
    global _shared
    if _shared is None:
        with _lock:
            if _shared is None:
                # Several subscriptions may share a host.
                size = settings.WEBHOOKS_MAX_IN_FLIGHT
                _shared = _Adapter(pool_connections=256, pool_maxsize=size, max_retries=0)
    return _shared


def _start_afresh() -> None:
    """Share no connection with another process."""
    global _shared, _lock, _resolver
    _shared, _lock, _resolver = None, threading.Lock(), _Resolver()


_shared: _Adapter | None
_lock: threading.Lock
_resolver: _Resolver
_start_afresh()
os.register_at_fork(after_in_child=_start_afresh)

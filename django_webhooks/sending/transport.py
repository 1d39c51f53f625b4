"""The only HTTP: one request under one deadline, over connections kept per process.

A receiver that drips bytes ends at the deadline like one that is silent. Nothing is read from the
environment: no proxies, no netrc, no cookies; no redirect is followed.
"""

from __future__ import annotations

import http.client
import os
import re
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Hashable, Mapping
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
from urllib3.util import parse_url

from ..conf import settings
from ..policies import urls
from ..policies.addresses import Refusal
from ..validators import url_rules
from . import sockets, tracing
from .sockets import Failed, NoAnswer, TLSSocket, connect_to, current, short

__all__ = ["Answer", "NoAnswer", "Trust", "connect", "get", "post"]

#: Endpoints with certificates of their own whose connections are kept.
MAX_ADAPTERS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """Who we say we are in TLS, and who we believe: PEM, empty for nobody and for the public."""

    client_certificate: str = field(default="", repr=False)
    ca_bundle: str = field(default="", repr=False)


PUBLIC = Trust()


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a receiver answered: status, headers by lower-case name, the beginning of the body."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


# RFC 9110 section 5.5, in the encoding that http.client uses.
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*\Z")


class _Response(http.client.HTTPResponse):
    """An answer whose lengths contradict each other has none, and ends with its connection."""

    def begin(self) -> None:
        current.head_ends = current.received + sockets.MAX_HEAD_BYTES
        try:
            super().begin()
        finally:
            current.head_ends = None
        claimed = self.headers.get_all("content-length", [])
        if len({one.strip() for value in claimed for one in value.split(",")}) > 1:
            del self.headers["content-length"]
            self.length, self.will_close = None, True


class _Connection(HTTPConnection):
    response_class = _Response
    _answers = 0

    def _new_conn(self) -> socket.socket:
        if self.proxy is not None:
            return sockets.connect_to_proxy(self._dns_host, self.port)
        return connect_to(self._dns_host, self.port)

    def putrequest(self, *args: Any, **kwargs: Any) -> None:
        current.is_reused = self._answers > 0
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


class _Clean:
    """Hand out connections that nothing is left on; fresh ones where the attempt wants that."""

    def _get_conn(self, *args: Any, **kwargs: Any) -> Any:
        connection = super()._get_conn(*args, **kwargs)  # type: ignore[misc]  # the pool's
        # What TLS has decrypted already does not show on the socket, where urllib3 looks.
        pending = getattr(connection.sock, "pending", int)
        if current.wants_fresh or pending():
            connection.close()
        return connection


class _Pool(_Clean, HTTPConnectionPool):
    ConnectionCls = _Connection


class _TLSPool(_Clean, HTTPSConnectionPool):
    ConnectionCls = _TLSConnection


_POOLS = {"http": _Pool, "https": _TLSPool}


class _Adapter(HTTPAdapter):
    def __init__(self, tls: ssl.SSLContext, *, size: int) -> None:
        self.tls = tls
        super().__init__(pool_connections=256, pool_maxsize=size, max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, ssl_context=self.tls, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, ssl_context=self.tls, **kwargs)
        manager.pool_classes_by_scheme = _POOLS
        return manager

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        # The context of the process verifies; loading the authorities again for each
        # connection, as requests does, takes 20 ms.
        conn.cert_reqs = "CERT_REQUIRED"


def post(
    url: str,
    *,
    headers: Mapping[str, str],
    body: bytes,
    timeout: float,
    trust: Trust = PUBLIC,
    tenant: Hashable = None,
) -> Answer | NoAnswer:
    """Send one POST and return the answer, or why there is none. Never raises.

    ``timeout`` is in seconds for everything together. At most WEBHOOKS_MAX_RESPONSE_BYTES of
    the body are read, still encoded; the connection is kept only after a complete answer.
    ``tenant`` is whose request it is: name look-ups of one never hold up those of others.
    """
    current.tenant = tenant
    return _exchange("POST", url, headers=headers, body=body, timeout=timeout, trust=trust)


def get(
    url: str,
    *,
    headers: Mapping[str, str],
    timeout: float,
    trust: Trust = PUBLIC,
    tenant: Hashable = None,
    max_bytes: int | None = None,
) -> Answer | NoAnswer:
    """Send one GET, as :func:`post` does; ``max_bytes`` are read in place of the setting's."""
    current.tenant = tenant
    return _exchange(
        "GET", url, headers=headers, body=None, timeout=timeout, trust=trust, max_bytes=max_bytes
    )


def connect(
    url: str, *, timeout: float, trust: Trust = PUBLIC, tenant: Hashable = None
) -> NoAnswer | None:
    """Connect, shake hands where the URL is https, and hang up; return why that failed, if it did.

    Never raises.
    """
    current.deadline, current.tenant = time.monotonic() + timeout, tenant
    found = urls.parse(url, url_rules())
    if isinstance(found, Refusal):
        return _blocked(found)
    try:
        proxy = settings.WEBHOOKS_PROXY
        sock = _through(proxy, found) if proxy else connect_to(found.host, found.port)
        with sock:
            if found.scheme == "https":
                tls = _adapter(trust).tls
                with tls.wrap_socket(sock, server_hostname=found.host) as wrapped:
                    wrapped.settimeout(current.time_left())
        return None
    except Failed as failed:
        return failed.answer
    except Exception as error:
        return _explain(error, url=url)


def _through(proxy: str, found: urls.Url) -> socket.socket:
    """Return a socket that the proxy has connected to the host of the URL."""
    address = urlsplit(proxy)
    tunnel = _Connection(address.hostname or "", address.port or 80, proxy=parse_url(proxy))
    credentials = _adapter(PUBLIC).proxy_headers(proxy)
    tunnel.set_tunnel(found.host, found.port, headers=credentials, scheme=found.scheme)
    tunnel.timeout = current.time_left()
    tunnel.connect()
    sock: socket.socket = tunnel.sock
    return sock


def _blocked(refusal: Refusal) -> NoAnswer:
    return NoAnswer(reason="blocked", detail=refusal.message)


@tracing.unseen
def _exchange(
    method: str,
    url: str,
    *,
    headers: Mapping[str, str],
    body: bytes | None,
    timeout: float,
    trust: Trust,
    max_bytes: int | None = None,
) -> Answer | NoAnswer:
    current.deadline = time.monotonic() + timeout
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
    current.wants_fresh = False
    while True:
        current.is_reused, current.received = False, 0
        try:
            return _send(request, trust=trust, max_bytes=max_bytes)
        except Failed as failed:
            return failed.answer
        except Exception as error:
            # A kept connection that the receiver had closed meanwhile says nothing about it.
            if current.is_reused and not current.received and _is_dropped(error):
                current.wants_fresh = True
                continue
            return _explain(error, url=url)


def _send(
    request: requests.PreparedRequest, *, trust: Trust, max_bytes: int | None = None
) -> Answer:
    proxy = settings.WEBHOOKS_PROXY
    limit = settings.WEBHOOKS_MAX_RESPONSE_BYTES if max_bytes is None else max_bytes
    response = _adapter(trust).send(
        request,
        stream=True,
        timeout=current.time_left(),
        verify=True,
        proxies={"http": proxy, "https": proxy} if proxy else None,
    )
    raw = response.raw
    body = b""
    try:
        body = raw.read(limit, decode_content=False)
        is_complete = not raw.read(1, decode_content=False)
    except Exception:
        # The status has been read, and it decides.
        is_complete = False
    if not is_complete:
        raw.close()
    raw.release_conn()
    found = {name.lower(): value for name, value in response.headers.items()}
    return Answer(status=response.status_code, headers=found, body=body)


def _explain(error: Exception, *, url: str) -> NoAnswer:
    chain = _chain(error)
    cause = short(chain[-1])
    if urlsplit(url).path.strip("/") and urlsplit(url).path in cause:
        # The path of a URL may be a secret.
        cause = type(chain[-1]).__name__
    tunnel = next((str(one) for one in chain if "Tunnel connection failed" in str(one)), "")
    if tunnel:
        status = tunnel.rpartition("Tunnel connection failed: ")[2][:80]
        return NoAnswer(reason="proxy", detail=f"The proxy does not connect to it ({status}).")
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


def _tls_context(trust: Trust) -> ssl.SSLContext:
    if trust.ca_bundle:
        context = ssl.create_default_context(cadata=trust.ca_bundle)
    else:
        file = settings.WEBHOOKS_CA_BUNDLE or certifi.where()
        context = ssl.create_default_context(cafile=file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # RFC 9525 section 2: a common name is no name of a server.
    context.hostname_checks_common_name = False
    context.sslsocket_class = TLSSocket
    if trust.client_certificate:
        # OpenSSL reads keys from files alone; this one is for our eyes, and gone at once.
        with tempfile.NamedTemporaryFile() as held:
            held.write(trust.client_certificate.encode())
            held.flush()
            # Without a password OpenSSL would ask the terminal for that of an encrypted key.
            context.load_cert_chain(held.name, password="")  # nosec B106
    return context


def _adapter(trust: Trust) -> _Adapter:
    public = _adapters.get(PUBLIC)
    if public is not None and trust == PUBLIC:
        return public
    with _lock:
        # The one that was used last is the last one.
        found = _adapters.pop(trust, None)
        if found is None:
            if len(_adapters) >= MAX_ADAPTERS:
                # Its requests under way end; its connections are closed as they come back.
                _adapters.pop(next(one for one in _adapters if one != PUBLIC)).close()
            # Several subscriptions may share a host.
            found = _Adapter(_tls_context(trust), size=settings.WEBHOOKS_MAX_IN_FLIGHT)
        _adapters[trust] = found
    return found


def _start_afresh() -> None:
    """Share no connection with another process."""
    global _adapters, _lock
    _adapters, _lock = {}, threading.Lock()
    sockets.start_afresh()


_adapters: dict[Trust, _Adapter]
_lock: threading.Lock
_start_afresh()
os.register_at_fork(after_in_child=_start_afresh)

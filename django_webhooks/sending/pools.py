"""Connections kept per process, with their TLS: urllib3's, over sockets that keep the deadline.

Nothing is read from the environment: no proxies, no netrc, no cookies. The HTTPAdapter of requests
manages pools and proxies; requests go over the connections themselves, because a ``Session`` reads
more of some answers than it should, and takes four times the processor time.
"""

from __future__ import annotations

import http.client
import io
import os
import re
import socket
import ssl
import tempfile
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import certifi
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ClosedPoolError

from ..conf import settings
from ..policies.urls import Url
from . import sockets
from .sockets import TLSSocket, connect_to, current

#: Endpoints with certificates of their own whose connections are kept.
MAX_ADAPTERS = 64
#: Hosts whose connections are kept, for each adapter.
MAX_POOLS = 256
#: Places whose key among the pools is remembered, for each adapter.
MAX_KEYS = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """Who we say we are in TLS, and who we believe: PEM, empty for nobody and for the public."""

    client_certificate: str = field(default="", repr=False)
    ca_bundle: str = field(default="", repr=False)


PUBLIC = Trust()


#: A header of one line (RFC 9112 section 5), as nearly all are.
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)\r\n")


class _Response(http.client.HTTPResponse):
    """An answer whose lengths contradict each other has none, and ends with its connection."""

    def begin(self) -> None:
        current.head_ends = current.received + sockets.MAX_HEAD_BYTES
        try:
            self._begin()
        finally:
            current.head_ends = None
        claimed = self.headers.get_all("content-length", [])
        if len({one.strip() for value in claimed for one in value.split(",")}) > 1:
            del self.headers["content-length"]
            self.length, self.will_close = None, True

    def _begin(self) -> None:
        """Do as http.client does, whose parser of headers is that of mails: ten times as slow."""
        while True:
            version, status, reason = self._read_status()  # type: ignore[attr-defined]
            if status != http.client.CONTINUE:
                break
            http.client._read_headers(self.fp)  # type: ignore[attr-defined]
        self.code = self.status = status
        self.reason = reason.strip()
        is_old = version in ("HTTP/1.0", "HTTP/0.9")
        if not (is_old or version.startswith("HTTP/1.")):
            raise http.client.UnknownProtocol(version)
        self.version = 10 if is_old else 11
        self.headers = self.msg = _parse_headers(self.fp)
        coding = self.headers.get("transfer-encoding", "")
        self.chunked = coding.lower() == "chunked"
        if self.chunked:
            self.chunk_left = None
        self.will_close = self._check_close()  # type: ignore[attr-defined]
        self.length = None
        length = self.headers.get("content-length")
        if length and not self.chunked:
            with suppress(ValueError):
                self.length = int(length)
            if self.length is not None and self.length < 0:
                self.length = None
        if status in (http.client.NO_CONTENT, http.client.NOT_MODIFIED) or status < 200:
            self.length = 0
        if not self.chunked and self.length is None:
            self.will_close = True


def _parse_headers(fp: Any) -> http.client.HTTPMessage:
    """Parse plain headers; leave all of them to http.client where one is not."""
    lines = http.client._read_headers(fp)  # type: ignore[attr-defined]
    found = http.client.HTTPMessage()
    for line in lines[:-1]:
        plain = _HEADER.fullmatch(line)
        if plain is None:
            return http.client.parse_headers(io.BytesIO(b"".join(lines)))
        found.set_raw(plain[1].decode("ascii"), plain[2].decode("iso-8859-1"))
    return found


class Connection(HTTPConnection):
    """A connection to a receiver, or to the proxy."""

    response_class = _Response
    _answers = 0

    def exchange(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes | None
    ) -> http.client.HTTPResponse:
        """Send a request, head and body together, and return the answer as far as its head.

        Names and values of headers have been looked at before: they are written as they are.
        """
        current.is_reused = self._answers > 0
        self.putrequest(method, target)
        lines = [f"{name}: {value}" for name, value in headers.items()]
        if body is not None:
            lines.append(f"content-length: {len(body)}")
        # One after the other, by putheader(), they would take as long as all the rest.
        self._buffer += [line.encode("latin-1") for line in lines]  # type: ignore[attr-defined]
        self.endheaders(body)
        # That of urllib3 wraps the answer for purposes that are not ours.
        response = http.client.HTTPConnection.getresponse(self)
        self._answers += 1
        return response

    def close(self) -> None:
        """Hang up."""
        super().close()
        self._answers = 0

    def _new_conn(self) -> socket.socket:
        if self.proxy is not None:
            return sockets.connect_to_proxy(self._dns_host, self.port)
        return connect_to(self._dns_host, self.port)

    def _send_output(self, message_body: Any = None, encode_chunked: bool = False) -> None:
        # In one piece: two would be two packets, which cost either side a wake-up more.
        self._buffer += (b"", message_body or b"")  # type: ignore[attr-defined]  # http.client's
        message = b"\r\n".join(self._buffer)  # type: ignore[attr-defined]
        self._buffer.clear()  # type: ignore[attr-defined]
        self.send(message)


class _TLSConnection(Connection, HTTPSConnection):
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
    ConnectionCls = Connection


class _TLSPool(_Clean, HTTPSConnectionPool):
    ConnectionCls = _TLSConnection


_POOLS = {"http": _Pool, "https": _TLSPool}


class Adapter(HTTPAdapter):
    """The pools of all whom one TLS context trusts."""

    def __init__(self, tls: ssl.SSLContext, *, size: int) -> None:
        self.tls = tls
        self._keys: dict[tuple[str, str, str, int], tuple[Any, Any, dict[str, Any]]] = {}
        super().__init__(pool_connections=MAX_POOLS, pool_maxsize=size, max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Make the pools with our connections; the context verifies whatever requests would set."""
        super().init_poolmanager(*args, ssl_context=self.tls, cert_reqs=ssl.CERT_REQUIRED, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        """Make the pools of a proxy with our connections."""
        manager = super().proxy_manager_for(
            proxy, ssl_context=self.tls, cert_reqs=ssl.CERT_REQUIRED, **kwargs
        )
        manager.pool_classes_by_scheme = _POOLS
        return manager

    def borrow(self, url: Url) -> tuple[Any, Connection]:
        """Return a pool and a connection of it that is open; it goes back by ``_put_conn``."""
        while True:
            pool = self._pool(url)
            try:
                connection = pool._get_conn()
                break
            except ClosedPoolError:
                # Another thread has just made room for one more host.
                continue
        try:
            if connection.is_closed:
                if pool.proxy is not None and url.scheme == "https":
                    pool._prepare_proxy(connection)
                else:
                    connection.connect()
        except BaseException:
            connection.close()
            pool._put_conn(connection)
            raise
        return pool, connection

    def _pool(self, url: Url) -> Any:
        proxy = settings.WEBHOOKS_PROXY
        place = (proxy, url.scheme, url.host, url.port)
        known = self._keys.get(place)
        if known is None:
            if len(self._keys) >= MAX_KEYS:
                self._keys.clear()
            manager = self.proxy_manager_for(proxy) if proxy else self.poolmanager
            host, port, scheme = url.host, url.port, url.scheme
            if proxy and scheme == "http":
                host, port, scheme = manager.proxy.host, manager.proxy.port, manager.proxy.scheme
            context = {**manager.connection_pool_kw, "scheme": scheme, "host": host, "port": port}
            # Making the key takes longer than looking the pool up by it.
            known = manager, manager.key_fn_by_scheme[scheme](context), context
            self._keys[place] = known
        manager, key, context = known
        return manager.connection_from_pool_key(key, context)


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


def adapter(trust: Trust) -> Adapter:
    """Return the adapter of this process for those who are trusted so."""
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
            found = Adapter(_tls_context(trust), size=settings.WEBHOOKS_MAX_IN_FLIGHT)
        _adapters[trust] = found
    return found


def start_afresh() -> None:
    """Share no connection with another process."""
    global _adapters, _lock
    _adapters, _lock = {}, threading.Lock()
    sockets.start_afresh()


_adapters: dict[Trust, Adapter]
_lock: threading.Lock
start_afresh()
os.register_at_fork(after_in_child=start_afresh)

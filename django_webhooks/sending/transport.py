"""The only HTTP: one request under one deadline, over connections kept per process.

A receiver that drips bytes ends at the deadline like one that is silent. Nothing is read from the
environment: no proxies, no netrc, no cookies; no redirect is followed.
"""

from __future__ import annotations

import functools
import http.client
import re
import socket
import ssl
import time
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit

import urllib3
from urllib3.util import parse_url

from ..conf import settings
from ..policies import urls
from ..policies.addresses import Refusal
from ..policies.urls import Url
from ..validators import HEADER_NAME, HEADER_VALUE, url_rules
from . import pools
from .pools import PUBLIC, Connection, Trust
from .sockets import Failed, NoAnswer, connect_to, current, short

__all__ = ["Answer", "NoAnswer", "Trust", "connect", "get", "post"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a receiver answered: status, headers by lower-case name, the beginning of the body."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


#: A sign that begins no percent-encoding.
_BARE_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")


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
                tls = pools.adapter(trust).tls
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
    tunnel = Connection(address.hostname or "", address.port or 80, proxy=parse_url(proxy))
    credentials = pools.adapter(PUBLIC).proxy_headers(proxy)
    tunnel.set_tunnel(found.host, found.port, headers=credentials, scheme=found.scheme)
    tunnel.timeout = current.time_left()
    tunnel.connect()
    sock: socket.socket = tunnel.sock
    return sock


def _blocked(refusal: Refusal) -> NoAnswer:
    return NoAnswer(reason="blocked", detail=refusal.message)


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
        if not (HEADER_NAME.match(name) and HEADER_VALUE.match(value)):
            return NoAnswer(reason="internal", detail=f"The header {name} cannot be sent as it is.")
    found = urls.parse(url, url_rules())
    if isinstance(found, Refusal):
        return _blocked(found)
    limit = settings.WEBHOOKS_MAX_RESPONSE_BYTES if max_bytes is None else max_bytes
    current.wants_fresh = False
    while True:
        current.is_reused, current.received = False, 0
        try:
            return _send(method, found, headers, body, trust=trust, limit=limit)
        except Failed as failed:
            return failed.answer
        except Exception as error:
            # A kept connection that the receiver had closed meanwhile says nothing about it.
            if current.is_reused and not current.received and _is_dropped(error):
                current.wants_fresh = True
                continue
            return _explain(error, url=url)


def _send(
    method: str,
    url: Url,
    headers: Mapping[str, str],
    body: bytes | None,
    *,
    trust: Trust,
    limit: int,
) -> Answer:
    current.time_left()
    pool, connection = pools.adapter(trust).borrow(url)
    is_complete = False
    try:
        target = _target(url.text)
        if pool.proxy is not None and url.scheme == "http":
            # RFC 9112 section 3.2.2.
            target, headers = _place(url.text) + target, {**headers, **pool.proxy_headers}
        response = connection.exchange(method, target, headers, body)
        found, is_complete = _read(response, limit)
    finally:
        if not is_complete:
            connection.close()
        pool._put_conn(connection)
    names: dict[str, str] = {}
    for name, value in response.headers.raw_items():
        name = name.lower()
        # RFC 9110 section 5.3: what is repeated is one list.
        names[name] = f"{names[name]}, {value}" if name in names else value
    return Answer(status=response.status, headers=names, body=found)


def _read(response: http.client.HTTPResponse, limit: int) -> tuple[bytes, bool]:
    """Return the beginning of the body, and whether it is all of it."""
    found = b""
    try:
        found = response.read(limit)
        is_complete = not response.read(1) and not response.length
    except Exception:
        # The status has been read, and it decides.
        is_complete = False
    return found, is_complete


@functools.lru_cache(maxsize=4096)
def _target(url: str) -> str:
    """Return the path and query of a URL as they are sent: RFC 9112 section 3.2.1."""
    target = url[len(_place(url)) :]
    return quote(_BARE_PERCENT.sub("%25", target), safe="%/?:@!$&'()*+,;=")


def _place(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}"


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
    if any(isinstance(one, TimeoutError | urllib3.exceptions.TimeoutError) for one in chain):
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

"""The only HTTP: one request under one deadline, over connections kept per process.

A receiver that drips bytes ends at the deadline like one that is silent, and one that never stops
at a bound. Nothing is read from the environment: no proxies, no netrc, no cookies; no redirect is
followed. Requests are written here and answers read in ``responses``, with sockets alone: a
receiver gets what was built and no header of a tracer, and no tracer gets the URL.
"""

from __future__ import annotations

import functools
import logging
import re
import ssl
import time
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

from ... import process_state
from ...conf import settings
from ...hiding import hiding
from ...policies import proxies, urls
from ...policies.addresses import Refusal
from ...policies.proxies import Proxy
from ...policies.reasons import Reason
from ...policies.urls import Url
from ...validators import HEADER_NAME, HEADER_VALUE, url_rules
from . import pools, sockets, tls
from .channels import Call, Channel, Failed, NoAnswer, short
from .pools import Connection, Place
from .responses import Broken, Response
from .tls import PUBLIC, Trust

__all__ = ["PUBLIC", "Answer", "NoAnswer", "Trust", "connect", "fault", "get", "post", "request"]

logger = logging.getLogger("django_webhooks.sending")

#: Bytes of a body that are read at the most: more than the excerpt that is kept, so that the
#: connections of receivers that answer with a page can be used again.
MAX_RESPONSE_BYTES = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer: status, headers by lower-case name, the beginning of the body.

    ``is_whole`` says that the body is neither longer than that, nor broken off.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)
    is_whole: bool = True


#: A sign that begins no percent-encoding.
_BARE_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")


@hiding
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

    ``timeout`` is in seconds for everything together. At most MAX_RESPONSE_BYTES of the body are
    read, still encoded; the connection is kept only after a complete answer.
    ``tenant`` is whose request it is: name look-ups of one never hold up those of others, and no
    connection is shared with them.

    An exception that ends the thread rather than the request is passed on: KeyboardInterrupt, the
    end of a greenlet, and Celery's soft time limit.
    """
    return request(
        "POST", url, headers=headers, body=body, timeout=timeout, trust=trust, tenant=tenant
    )


@hiding
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
    return request(
        "GET",
        url,
        headers=headers,
        body=None,
        timeout=timeout,
        trust=trust,
        tenant=tenant,
        max_bytes=max_bytes,
    )


@hiding
def connect(
    url: str, *, timeout: float, trust: Trust = PUBLIC, tenant: Hashable = None
) -> NoAnswer | None:
    """Connect, shake hands where the URL is https, and hang up; return why that failed, if it did.

    Never raises, as :func:`post`.
    """
    try:
        call = Call(deadline=time.monotonic() + timeout, tenant=tenant)
        found = urls.parse(url, url_rules())
        if isinstance(found, Refusal):
            return _blocked(found)
        _knock(_place(found, trust=trust, tenant=tenant), call)
        return None
    except Exception as error:
        return _explain(error)


def fault() -> str:
    """Return what is wrong with our own settings, so that nothing can be sent; mostly nothing."""
    try:
        _proxy()
        tls.context(PUBLIC)
    except Failed as failed:
        return failed.answer.detail
    return ""


def _knock(place: Place, call: Call) -> None:
    """Connect to a place, through the proxy whatever the scheme, and hang up."""
    if place.proxy is None or place.scheme == "https":
        pools.open_channel(place, call).close()
        return
    with sockets.connect_to_proxy(place.proxy.host, place.proxy.port, call) as sock:
        pools.ask_to_connect(Channel(sock), place, call)


def _blocked(refusal: Refusal) -> NoAnswer:
    return NoAnswer(reason=Reason.BLOCKED, detail=refusal.message)


@hiding
def request(
    method: str,
    url: str,
    *,
    headers: Mapping[str, str],
    body: bytes | None = None,
    timeout: float,
    trust: Trust = PUBLIC,
    tenant: Hashable = None,
    max_bytes: int | None = None,
) -> Answer | NoAnswer:
    """Send one request of any method, as :func:`post` and :func:`get` do."""
    try:
        if not HEADER_NAME.match(method):
            return NoAnswer(reason=Reason.INTERNAL, detail="The method is no token of HTTP.")
        for name, value in headers.items():
            # An error of the encoder would quote the value, which may be a secret.
            if not (HEADER_NAME.match(name) and HEADER_VALUE.match(value)):
                return NoAnswer(
                    reason=Reason.INTERNAL, detail=f"The header {name} cannot be sent as it is."
                )
        found = urls.parse(url, url_rules())
        if isinstance(found, Refusal):
            return _blocked(found)
        call = Call(
            deadline=time.monotonic() + timeout,
            tenant=tenant,
            max_bytes=MAX_RESPONSE_BYTES if max_bytes is None else max_bytes,
            has_body=method != "HEAD",
        )
        place = _place(found, trust=trust, tenant=tenant)
        response = _send(place, _message(method, found, place.proxy, headers, body), call)
        return Answer(
            status=response.status,
            headers=response.headers,
            body=response.body,
            is_whole=response.is_whole,
        )
    except Exception as error:
        return _explain(error)


def _place(url: Url, *, trust: Trust, tenant: Hashable) -> Place:
    return Place(url.scheme, url.host, url.port, _proxy(), trust, tenant)


def _proxy() -> Proxy | None:
    try:
        return proxies.parse(settings.WEBHOOKS_PROXY_URL)
    except (ValueError, TypeError) as error:
        # Our setting says nothing of any receiver.
        raise Failed(Reason.INTERNAL, str(error)) from None


def _message(
    method: str, url: Url, proxy: Proxy | None, headers: Mapping[str, str], body: bytes | None
) -> bytes:
    """Return head and body in one piece: two would be two packets, and wake either side twice."""
    target, origin = _target(url.text), _origin(url.text)
    host = origin.partition("://")[2]
    if proxy is not None and url.scheme == "http":
        # RFC 9112 section 3.2.2.
        target, headers = origin + target, {**headers, **proxy.headers}
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", "Accept-Encoding: identity"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if body is not None:
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")


def _send(place: Place, message: bytes, call: Call) -> Response:
    call.time_left()
    connection = pools.borrow(place, call)
    before, is_reused = call.received, connection.answers > 0
    try:
        return _try(connection, message, call)
    except (ConnectionResetError, BrokenPipeError, ConnectionAbortedError, Broken):
        # A kept connection that the receiver had closed meanwhile says nothing about it.
        if not is_reused or call.received > before:
            raise
    return _try(pools.borrow(place, call, fresh=True), message, call)


def _try(connection: Connection, message: bytes, call: Call) -> Response:
    is_over = False
    try:
        response = connection.exchange(message, call)
        is_over = response.is_over
        return response
    finally:
        pools.give_back(connection, is_over=is_over)


@process_state.memo
@functools.lru_cache(maxsize=4096)
def _target(url: str) -> str:
    """Return the path and query of a URL as they are sent: RFC 9112 section 3.2.1."""
    target = url[len(_origin(url)) :]
    return quote(_BARE_PERCENT.sub("%25", target), safe="%/?:@!$&'()*+,;=")


def _origin(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}"


def _explain(error: Exception) -> NoAnswer:
    if isinstance(error, Failed):
        return error.answer
    if isinstance(error, ssl.SSLError):
        return NoAnswer(reason=Reason.TLS, detail=f"TLS failed ({short(error)}).")
    if isinstance(error, TimeoutError):
        return NoAnswer(reason=Reason.TIMEOUT, detail="There was no answer in time.")
    if isinstance(error, OSError) and error.errno in sockets.OUR_FAULTS:
        return NoAnswer(reason=Reason.INTERNAL, detail=f"It could not be sent ({short(error)}).")
    if isinstance(error, OSError):
        return NoAnswer(reason=Reason.CONNECTION, detail=f"The connection broke ({short(error)}).")
    if _ends_the_task(error):
        raise error
    # The error's text might quote a secret, and so might the values in its frames.
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = f"{place.tb_frame.f_code.co_filename}:{place.tb_lineno}" if place else "?"
    logger.error("A request could not be sent: %s at %s.", type(error).__name__, where)
    return NoAnswer(reason=Reason.INTERNAL, detail=f"{type(error).__name__} in the sender.")


def _ends_the_task(error: Exception) -> bool:
    # Celery's soft time limit is an ordinary exception, raised wherever the task happens to be.
    return type(error).__module__.partition(".")[0] == "billiard"

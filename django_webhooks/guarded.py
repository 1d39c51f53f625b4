"""Requests under the rules of sending, for what else a project asks of URLs that strangers enter.

Whoever takes a URL from a customer calls it elsewhere as well: to look whether a logo is there, to
load a document, to answer a call-back. The adapter below gives a session of the ``requests``
library what webhooks have: addresses vetted where the connection is made, https alone, one deadline
over everything, one bound on what is read, nothing from the environment::

    from django_webhooks import guarded

    with guarded.session() as http:
        logo = http.get(shop.logo_url, timeout=5)

Redirects are followed as ``requests`` does, and each is vetted like the first URL.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any
from urllib.parse import urldefrag

import requests
from requests.adapters import BaseAdapter
from requests.structures import CaseInsensitiveDict
from requests.utils import get_encoding_from_headers

from .conf import settings
from .exceptions import WebhooksError
from .policies.reasons import Reason
from .sending import http
from .sending.http import NoAnswer

__all__ = ["GuardedAdapter", "NotAllowed", "TooLarge", "session"]

#: Bytes of a body that are read at the most, unless the adapter is given another number.
MAX_BYTES = 8_388_608
#: Headers that the transport writes itself.
_OWN_HEADERS = frozenset({"accept-encoding", "connection", "content-length", "host"})


class NotAllowed(WebhooksError, requests.exceptions.ConnectionError):
    """Raised where a URL, or the address it leads to, is not allowed; nothing was sent there.

    Tell whoever entered the URL, or allow it in WEBHOOKS_ALLOWED_NETWORKS.
    """


class TooLarge(WebhooksError, requests.exceptions.ConnectionError):
    """Raised where a body is larger than ``max_bytes``; the rest of it was not read."""


_ERRORS: Mapping[str, type[requests.exceptions.RequestException]] = {
    Reason.BLOCKED: NotAllowed,
    Reason.CONNECT_TIMEOUT: requests.exceptions.ConnectTimeout,
    Reason.TIMEOUT: requests.exceptions.ReadTimeout,
    Reason.TLS: requests.exceptions.SSLError,
    Reason.PROXY: requests.exceptions.ProxyError,
}


class GuardedAdapter(BaseAdapter):
    """A transport adapter of ``requests`` that sends as webhooks are sent.

    ``timeout`` of a request is in seconds for everything together, WEBHOOKS_TIMEOUT_SECONDS where
    there is none. ``max_bytes`` bounds the body, which is read at once. Certificates are always
    verified, and WEBHOOKS_PROXY_URL is the only proxy.
    """

    def __init__(self, *, max_bytes: int = MAX_BYTES) -> None:
        super().__init__()
        self.max_bytes = max_bytes

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: float | tuple[float, float] | tuple[float, None] | None = None,
        verify: bool | str = True,
        cert: Any = None,
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """Send one request and return the answer.

        Raise NotAllowed, TooLarge, or what ``requests`` raises where there is no answer; ValueError
        for what is not to be had here: ``verify=False``, a certificate, a body of unknown length.
        """
        if verify is not True or cert:
            raise ValueError("A guarded session verifies certificates, and presents none.")
        body = request.body.encode() if isinstance(request.body, str) else request.body
        if body is None and request.headers.get("Content-Length") == "0":
            body = b""
        if body is not None and not isinstance(body, bytes):
            raise ValueError("A guarded session sends bytes and texts, no files or generators.")
        answer = http.request(
            request.method or "GET",
            urldefrag(request.url or "").url,
            headers=_headers(request),
            body=body,
            timeout=_seconds(timeout),
            max_bytes=self.max_bytes + 1,
        )
        if isinstance(answer, NoAnswer):
            error = _ERRORS.get(answer.reason, requests.exceptions.ConnectionError)
            raise error(answer.detail, request=request)
        if len(answer.body) > self.max_bytes:
            raise TooLarge(f"The body has more than {self.max_bytes} bytes.", request=request)
        if not answer.is_whole:
            raise requests.exceptions.ChunkedEncodingError(
                "The connection ended within the body.", request=request
            )
        return _response(answer, request)

    def close(self) -> None:
        """Keep what is open: it is the process's, not the session's."""


def session(*, max_bytes: int = MAX_BYTES) -> requests.Session:
    """Return a session of ``requests`` that reaches nothing but by a :class:`GuardedAdapter`."""
    made = requests.Session()
    # No proxies, no certificates and no netrc of the environment.
    made.trust_env = False
    made.adapters.clear()
    for prefix in ("https://", "http://"):
        made.mount(prefix, GuardedAdapter(max_bytes=max_bytes))
    return made


def _headers(request: requests.PreparedRequest) -> dict[str, str]:
    # Values of bytes are left as they are by requests.
    headers: Mapping[str, str | bytes] = request.headers
    given = {
        name: value if isinstance(value, str) else value.decode("latin-1")
        for name, value in headers.items()
        if name.lower() not in _OWN_HEADERS
    }
    # Webhooks alone keep connections: a request that may have arrived is not sent twice here.
    return {**given, "Connection": "close"}


def _seconds(timeout: float | tuple[float, float | None] | None) -> float:
    if isinstance(timeout, tuple):
        given = [one for one in timeout if one is not None]
        timeout = sum(given) if given else None
    return float(settings.WEBHOOKS_TIMEOUT_SECONDS if timeout is None else timeout)


def _response(answer: http.Answer, request: requests.PreparedRequest) -> requests.Response:
    response = requests.Response()
    response.status_code = answer.status
    response.headers = CaseInsensitiveDict(answer.headers)
    response.encoding = get_encoding_from_headers(response.headers)
    response.raw = io.BytesIO(answer.body)
    response.request = request
    response.url = request.url or ""
    return response

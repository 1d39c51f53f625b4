"""The body of a request, in full: read to where its sender ended it, or refused.

A request of HTTP/1 says where its body ends by a Content-Length, or by chunks (RFC 9112 section
6.3). Django reads by the Content-Length alone under WSGI, and takes a body in chunks for an empty
one; it is read here where the server says that it ends the stream (``wsgi.input_terminated``, which
gunicorn, gevent, Werkzeug and mod_wsgi set), or has a way of its own (uWSGI's ``chunked_read``).
Anywhere else it is refused with 411, so that nothing is verified, stored or answered 2xx that was
not received.

Sources: PEP 3333 ("Input and Error Streams"); https://gist.github.com/mitsuhiko/5721547;
https://uwsgi-docs.readthedocs.io/en/latest/Chunked.html
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from django.conf import settings as django_settings
from django.core.exceptions import RequestDataTooBig
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest
from django.http.request import RawPostDataException

from ..exceptions import Rejected
from ..policies.reasons import RejectionReason

#: Bytes that are asked for at once.
PIECE = 65_536
#: Servers of WSGI that raise an error where chunks are cut off or malformed, by the beginning of
#: ``SERVER_SOFTWARE``. Granian gives what there is, as if that was all.
NOTICING = ("gunicorn/", "gevent/", "Werkzeug/", "Cheroot/", "waitress")


def read(request: HttpRequest, *, limit: int, is_signed: bool = True) -> bytes:
    """Return the body, of ``limit`` bytes at the most; raise Rejected unless it came in full.

    ``is_signed`` says that the scheme proves the body. Without a proof two more are refused: chunks
    under servers that are not known to notice where they are cut off, uWSGI among them, and a
    request that says no length at all.
    """
    declared = _declared(request, limit)
    coding = request.META.get("HTTP_TRANSFER_ENCODING", "").strip().lower()
    if coding not in {"", "chunked"}:
        raise Rejected(
            RejectionReason.LENGTH, 411, "No other transfer coding than chunked is taken."
        )
    is_asgi = isinstance(request, ASGIRequest)
    if coding and not is_asgi:
        return _chunked(request, limit=limit, is_signed=is_signed, declared=declared)
    # Under ASGI the server has ended the body before Django calls a view.
    body = _whole(request, limit) if declared is not None or is_asgi else b""
    has_end = declared is not None or coding or not _is_http_1(request)
    if not body and not has_end and not is_signed:
        # Without either there is no body, for servers; a sender may see that otherwise.
        raise Rejected(RejectionReason.LENGTH, 411, "The request says no length; its sender must.")
    if len(body) > limit:
        raise _too_large(limit)
    if declared is not None and len(body) < declared:
        # WSGI tells of a sender that hung up by an early end.
        raise _incomplete()
    return body


def is_empty(request: HttpRequest) -> bool:
    """Say whether the request has no body, by what it says itself."""
    no_length = request.META.get("CONTENT_LENGTH") in (None, "", "0")
    return no_length and "HTTP_TRANSFER_ENCODING" not in request.META


def _declared(request: HttpRequest, limit: int) -> int | None:
    """Return the Content-Length, None where there is none; raise Rejected over the limit."""
    text = request.META.get("CONTENT_LENGTH") or ""
    if not text:
        return None
    is_number = text.isascii() and text.isdigit() and len(text) < 20
    if not is_number or int(text) > limit:
        raise _too_large(limit)
    return int(text)


def _is_http_1(request: HttpRequest) -> bool:
    """Say whether a body needs a length or chunks to have an end; from HTTP/2 on it has one."""
    if isinstance(request, ASGIRequest):
        return str(request.scope.get("http_version", "1.1")).startswith("1")
    return not str(request.META.get("SERVER_PROTOCOL", "")).startswith(("HTTP/2", "HTTP/3"))


def _whole(request: HttpRequest, limit: int) -> bytes:
    try:
        return request.body
    except RequestDataTooBig:
        raise _too_large(limit) from None
    except RawPostDataException:
        raise Rejected(
            RejectionReason.READ,
            500,
            "A middleware read the request before; let it leave webhooks alone.",
        ) from None
    except OSError:
        # The sender hung up, or said that there was more.
        raise _incomplete() from None


def _chunked(request: HttpRequest, *, limit: int, is_signed: bool, declared: int | None) -> bytes:
    if declared is not None:
        # RFC 9112 section 6.1: it may be an attempt to have two servers see two requests.
        raise Rejected(RejectionReason.LENGTH, 400, "The request has a Content-Length and chunks.")
    try:
        given = request.body
    except (RawPostDataException, OSError):
        # Without a length Django itself reads nothing.
        given = b""
    if len(given) > limit:
        raise _too_large(limit)
    if given:
        # A middleware read the chunks, and left what it read.
        return given
    pieces = _pieces(request, is_signed=is_signed)
    if pieces is None:
        raise Rejected(
            RejectionReason.LENGTH, 411, "Chunks are not read here; send a Content-Length."
        )
    allowed: Any = django_settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    limit = limit if allowed is None else min(limit, allowed)
    found = bytearray()
    try:
        for piece in pieces:
            found += piece
            if len(found) > limit:
                raise _too_large(limit)
    except Rejected:
        raise
    except Exception:
        # Servers raise errors of their own where a chunk is malformed, or the sender hung up.
        raise _incomplete() from None
    # For the handler, as Django and its test client keep it themselves.
    request._body = bytes(found)
    return bytes(found)


def _pieces(request: HttpRequest, *, is_signed: bool) -> Iterator[bytes] | None:
    """Return what reads the chunks, or None where the server has no way to."""
    environ = request.META
    if not is_signed and not str(environ.get("SERVER_SOFTWARE", "")).startswith(NOTICING):
        return None
    if environ.get("wsgi.input_terminated"):
        return iter(partial(environ["wsgi.input"].read, PIECE), b"")
    if "uwsgi.version" in environ:
        # A module that uWSGI itself makes, and that cannot be imported anywhere else.
        return _of_uwsgi(importlib.import_module("uwsgi").chunked_read)
    return None


def _of_uwsgi(read: Callable[[], bytes]) -> Iterator[bytes]:
    try:
        piece = read()
    except OSError:
        # Its router keeps chunks to itself without the option.
        raise Rejected(
            RejectionReason.LENGTH,
            411,
            "uWSGI gave no chunk: its router needs --http-chunked-input, a chunk over 1 MiB "
            "--chunked-input-limit.",
        ) from None
    while piece:
        yield piece
        piece = read()


def _too_large(limit: int) -> Rejected:
    return Rejected(RejectionReason.SIZE, 413, f"More than {limit:,} bytes are not taken.")


def _incomplete() -> Rejected:
    return Rejected(RejectionReason.READ, 400, "The body did not come in full.")

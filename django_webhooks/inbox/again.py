"""Again: a stored message is handled by its view's handler, with the request made once more.

A worker gives the handler what was kept: path, headers without credentials, and body. The request
has no query, no user and no session.
"""

from __future__ import annotations

import io
from typing import Any

from django.core.handlers.wsgi import WSGIRequest
from django.http import HttpRequest, HttpResponseBase

from ..receiving import handlers as handlings
from ..receiving.message import Message
from .models import InboxMessage


def handle(row: InboxMessage) -> HttpResponseBase:
    """Have a stored message handled, and return the handler's answer."""
    handling, match = handlings.at(row.path, source=row.source)
    request = rebuild(row)
    request.resolver_match = match
    return handling(request, message(row), *match.args, **match.kwargs)


def message(row: InboxMessage) -> Message:
    """Return the message of a row."""
    return Message(
        scheme=row.scheme,
        id=row.message_id,
        body=bytes(row.body),
        timestamp=row.timestamp,
        headers=row.headers,
        owner=row.owner_key,
    )


def rebuild(row: InboxMessage) -> HttpRequest:
    """Return the request of a row, as far as it is kept."""
    body = bytes(row.body)
    # PEP 3333: the bytes of the path as text in Latin-1.
    environ: dict[str, Any] = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": row.path.encode().decode("latin-1"),
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "443",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.url_scheme": "https",
        "wsgi.input": io.BytesIO(body),
        "CONTENT_TYPE": row.headers.get("content-type", ""),
        "CONTENT_LENGTH": str(len(body)),
    }
    for name, value in row.headers.items():
        # How the body was written on its way is nothing of the request that is made here.
        if name not in {"content-type", "content-length", "transfer-encoding"}:
            environ[f"HTTP_{name.upper().replace('-', '_')}"] = value
    return WSGIRequest(environ)

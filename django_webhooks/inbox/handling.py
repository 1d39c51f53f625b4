"""Handling: what a view does with its messages, found again by the path that they came to.

A worker gives the handler the request once more, made of what was kept: path, headers without
credentials, and body. It has no query, no user and no session.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.core.handlers.wsgi import WSGIRequest
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.urls import Resolver404, resolve

from ..exceptions import WebhooksError
from ..models import InboxMessage
from ..sending import hops
from .message import Message

#: Attribute of a view that holds its handling.
ATTRIBUTE = "webhook_handling"


class NoHandler(WebhooksError):
    """No view takes the messages of a path any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Handling:
    """What is done with the messages of a view.

    ``run`` is called with the request, the message and what the URL captures. ``source`` is the
    name by which the inbox tells views apart.
    """

    source: str
    run: Callable[..., HttpResponseBase | None]
    once: bool = True
    background: bool = False
    keep_payload: bool = True

    def __call__(
        self, request: HttpRequest, message: Message, *args: Any, **kwargs: Any
    ) -> HttpResponseBase:
        """Return the handler's answer, 204 where it has none."""
        with hops.handling(message.headers):
            answer = self.run(request, message, *args, **kwargs)
        render = getattr(answer, "render", None)
        if callable(render):
            # What a template asks of the database belongs to the same transaction.
            answer = render()
        return HttpResponse(status=204) if answer is None else answer


def at(path: str) -> tuple[Handling, Any]:
    """Return the handling at a path, and Django's match. Raise NoHandler where there is none."""
    try:
        match = resolve(path)
    except Resolver404:
        raise NoHandler(f"There is no view at {path} any more.") from None
    found = getattr(match.func, ATTRIBUTE, None)
    if not isinstance(found, Handling):
        raise NoHandler(f"The view at {path} takes no webhooks any more.")
    return found, match


def again(row: InboxMessage) -> HttpResponseBase:
    """Have a stored message handled, and return the handler's answer."""
    handling, match = at(row.path)
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
        if name not in {"content-type", "content-length"}:
            environ[f"HTTP_{name.upper().replace('-', '_')}"] = value
    return WSGIRequest(environ)

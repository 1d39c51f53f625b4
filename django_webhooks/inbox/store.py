"""The inbox as views ask it; this module is the one that :mod:`..receiving.inboxes` names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse, HttpResponseBase

from ..policies.addresses import Address
from ..receiving import handlers as handlings
from ..receiving.handlers import Handling
from ..receiving.message import Message
from . import deduplication, inline, rejections, wakeups, worker

flush = rejections.flush


def take(
    handling: Handling,
    request: HttpRequest,
    message: Message,
    *,
    captured: tuple[tuple[Any, ...], dict[str, Any]],
    run: Callable[[], HttpResponseBase],
) -> HttpResponseBase:
    """Handle a message once by ``run``, or store it for a worker; return the answer."""
    using = deduplication.database()
    path = request.path_info
    row = deduplication.row(message, handling=handling, path=path, captured=captured)
    if not handling.background:
        return inline.handle(row, run, using=using)
    found, match = handlings.at(row.path, source=handling.source)
    # A worker would find another view there, or none, or call it with other arguments.
    if found.source != handling.source:
        raise ImproperlyConfigured(f"{handling.source} is not the view at {path}.")
    if (tuple(match.args), match.kwargs) != captured:
        raise ImproperlyConfigured(
            f"A wrapper around {handling.source} changes its arguments, which a worker does not "
            "know; let the handler do what the wrapper does."
        )
    is_new = worker.store(row, wakeups.tell_of_message, using=using)
    return HttpResponse(status=202 if is_new else 200)


def count_refusal(source: str, reason: str, client: Address | None) -> None:
    """Count a request that was refused, under the network of its client."""
    rejections.count(source, reason, rejections.network_of(client))

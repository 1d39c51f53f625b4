"""Handling: what a view does with its messages, found again by the path that they came to.

Where a wrapper hides the view at a path, it is looked for inside, then by the name of its source.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.conf import settings as django_settings
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.urls import Resolver404, resolve

from ..exceptions import NoHandler
from ..sending.wire import loops
from . import wrappers
from .message import Message
from .wrappers import ATTRIBUTE


@dataclass(frozen=True, slots=True, kw_only=True)
class Handling:
    """The handler of the messages of a view, and how it is to be called.

    ``run`` is called with the request, the message and what the URL captures. ``source`` is the
    name by which the inbox tells views apart.
    """

    source: str
    run: Callable[..., HttpResponseBase | None]
    once: bool = True
    background: bool = False
    keep_payload: bool = True
    #: What makes it: the handler, or a class and what its view was made with.
    build_entry: Any = None

    def __call__(
        self, request: HttpRequest, message: Message, *args: Any, **kwargs: Any
    ) -> HttpResponseBase:
        """Return the handler's answer, 204 where it has none."""
        with loops.handling(message.headers):
            answer = self.run(request, message, *args, **kwargs)
        render = getattr(answer, "render", None)
        if callable(render):
            # What a template asks of the database belongs to the same transaction.
            answer = render()
        if answer is None:
            return HttpResponse(status=204)
        if not isinstance(answer, HttpResponseBase):
            raise TypeError(
                f"The handler of {self.source} returned {type(answer).__name__}; return an "
                "HttpResponse, or None for 204, from a plain function."
            )
        return answer


#: The handlings there are, by source: several where views of one name are not the same.
_known: dict[str, list[Handling]] = {}


def register(handling: Handling) -> None:
    """Let a handling be found by its source, in place of one that is made of the same."""
    found = _known.setdefault(handling.source, [])
    found[:] = [one for one in found if one.build_entry != handling.build_entry]
    found.append(handling)


def at(path: str, *, source: str = "") -> tuple[Handling, Any]:
    """Return the handling of a source's messages at a path, and Django's match.

    Raise NoHandler where there is none.
    """
    try:
        # Where workers look, whatever a middleware chose for this request.
        match = resolve(path, urlconf=django_settings.ROOT_URLCONF)
    except Resolver404:
        raise NoHandler(f"There is no view at {path} any more.") from None
    found = getattr(match.func, ATTRIBUTE, None)
    if isinstance(found, Handling):
        return found, match
    hidden = [getattr(one, ATTRIBUTE) for one in wrappers.inside(match.func)]
    for one in hidden:
        if isinstance(one, Handling) and one.source == source:
            return one, match
    known = _known.get(source, [])
    if len(known) != 1:
        raise NoHandler(
            f"The view at {path} takes no webhooks any more."
            if not known
            else f"Several views are named {source!r}; give each a name of its own."
        )
    return known[0], match

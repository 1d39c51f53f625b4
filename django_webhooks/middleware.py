"""Middleware: who makes a request is who acts, for the audit trail."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, cast

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest, HttpResponseBase
from django.utils.decorators import sync_and_async_middleware

from .audit_log import set_actor

__all__ = ["actor"]


@sync_and_async_middleware
def actor(get_response: Callable[..., Any]) -> Callable[..., Any]:
    """Note changes of subscriptions and permissions as done by the user of the request.

    Put ``"django_webhooks.middleware.actor"`` behind Django's ``AuthenticationMiddleware``.
    """
    if iscoroutinefunction(get_response):

        async def answer_later(request: HttpRequest) -> HttpResponseBase:
            with set_actor(lambda: _name(request)):
                return await cast("Awaitable[HttpResponseBase]", get_response(request))

        return answer_later

    def answer(request: HttpRequest) -> HttpResponseBase:
        with set_actor(lambda: _name(request)):
            return cast("HttpResponseBase", get_response(request))

    return answer


def _name(request: HttpRequest) -> str:
    # Looked up when something is noted: most requests need no session.
    user = getattr(request, "user", None)
    return str(user.get_username()) if user is not None else ""

"""Views that receive webhooks, as the URLconf has them: their secrets, and wrappers around them.

Django reads the exemptions of a view off the function in the URLconf. ``functools.wraps`` copies
them to a wrapper; a wrapper without it loses them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error, Warning
from django.urls import URLPattern, URLResolver, get_resolver

from ..exceptions import InvalidSecret
from ..receiving import inboxes, views, wrappers
from ..receiving.handlers import Handling
from .system_check import system_check

CSRF = "django.middleware.csrf.CsrfViewMiddleware"
LOGIN = "django.contrib.auth.middleware.LoginRequiredMiddleware"


@system_check("webhooks")
def check_wrappers(**kwargs: Any) -> Iterator[CheckMessage]:
    """Check that wrappers keep the exemptions of views."""
    for route, callback in _routed():
        if not _is_view(callback):
            for inside in wrappers.inside(callback):
                yield from _hidden(route, callback, getattr(inside, wrappers.ATTRIBUTE))


@system_check("webhooks")
def check_secrets(**kwargs: Any) -> Iterator[CheckMessage]:
    """Check the secrets that views name; those of a callable are known with a request alone."""
    for route, view in _receiving():
        scheme, secrets = getattr(view, views.VERIFIER)
        check = getattr(scheme, "check_secret", None)
        if check is None or secrets is None or callable(secrets):
            continue
        for secret in [secrets] if isinstance(secrets, str) else secrets:
            try:
                check(secret)
            except InvalidSecret as error:
                yield Error(
                    f"A secret of the view at {route!r}, which receives webhooks, is malformed: "
                    f"{error}",
                    hint="Copy it again in full; until then that secret verifies nothing.",
                    id="webhooks.E091",
                )


@system_check("webhooks")
def check_inbox(**kwargs: Any) -> Iterator[CheckMessage]:
    """Check that views which handle a message once have where to store that they did."""
    if not isinstance(inboxes.current(), inboxes.NoInbox):
        return
    for route, view in _receiving():
        if getattr(view, wrappers.ATTRIBUTE).once:
            yield Error(
                f"The view at {route!r} handles each message once, for which messages are stored.",
                hint="Add 'django_webhooks.inbox' to INSTALLED_APPS, or set once=False and let the "
                "handler bear repeats.",
                id="webhooks.E201",
            )


def _is_view(callback: Any) -> bool:
    return isinstance(getattr(callback, wrappers.ATTRIBUTE, None), Handling)


def _routed() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield the views of the project with their routes."""
    if getattr(django_settings, "ROOT_URLCONF", None):
        yield from _views(get_resolver().url_patterns, "")


def _receiving() -> Iterator[tuple[str, Any]]:
    """Yield the views that receive webhooks, those inside wrappers too, with their routes."""
    for route, callback in _routed():
        for view in [callback] if _is_view(callback) else wrappers.inside(callback):
            yield route, view


def _hidden(route: str, callback: Callable[..., Any], inside: Handling) -> Iterator[CheckMessage]:
    lost = [
        words
        for middleware, is_lost, words in (
            (CSRF, not getattr(callback, "csrf_exempt", False), "CSRF checks"),
            (LOGIN, getattr(callback, "login_required", True), "the login"),
        )
        if middleware in django_settings.MIDDLEWARE and is_lost
    ]
    if lost:
        yield Warning(
            f"The view at {route!r} wraps {inside.source}, which receives webhooks, and is not "
            f"exempt from {' and '.join(lost)}: senders are refused.",
            hint="Write @functools.wraps(view) above the wrapper, or wrap the handler instead.",
            id="webhooks.W040",
        )


def _views(patterns: Any, prefix: str) -> Iterator[tuple[str, Callable[..., Any]]]:
    for one in patterns:
        route = f"{prefix}{one.pattern}"
        if isinstance(one, URLResolver):
            yield from _views(one.url_patterns, route)
        elif isinstance(one, URLPattern):
            yield route, one.callback

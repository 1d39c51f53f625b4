"""The inbox, as views know it: ``django_webhooks.inbox`` installs its own when Django starts.

Without that app requests are verified and handled, nothing is stored, and no refusal is counted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponseBase

from ..policies.addresses import Address
from .handlers import Handling
from .message import Message


class Inbox(Protocol):
    """The inbox as views ask it."""

    def take(
        self,
        handling: Handling,
        request: HttpRequest,
        message: Message,
        *,
        captured: tuple[tuple[Any, ...], dict[str, Any]],
        run: Callable[[], HttpResponseBase],
    ) -> HttpResponseBase:
        """Handle a message once by ``run``, or store it for a worker; return the answer.

        ``captured`` are the arguments that the URL gives the view.
        """

    def count_refusal(self, source: str, reason: str, client: Address | None) -> None:
        """Count a request that was refused."""

    def flush(self) -> None:
        """Write what was counted."""


class NoInbox:
    """The inbox of a project without the app: nothing is counted, and repeats are not known."""

    def take(self, handling: Handling, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Raise ImproperlyConfigured."""
        raise ImproperlyConfigured(
            f"{handling.source} handles each message once, for which messages are stored: add "
            "'django_webhooks.inbox' to INSTALLED_APPS, or set once=False."
        )

    def count_refusal(self, source: str, reason: str, client: Address | None) -> None:
        """Count nothing."""

    def flush(self) -> None:
        """Write nothing."""


_inbox: Inbox = NoInbox()


def install(inbox: Inbox) -> None:
    """Let views use an inbox from now on."""
    global _inbox
    _inbox = inbox


def current() -> Inbox:
    """Return the inbox of the project."""
    return _inbox

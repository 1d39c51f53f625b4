"""The errors of this app, as one tree: ``except WebhooksError`` catches all that it raises itself.

WebhooksError
├── UnknownEventType (LookupError)              nobody declared this event type
├── PayloadError (ValueError)                   the data of an event cannot be sent
│   └── PayloadTooLarge
├── NothingToReplay (ValueError)                all that was selected waits, or has arrived
├── InvalidSecret (ValueError)                  a signing secret is malformed
├── InvalidKey (ImproperlyConfigured)           a key of WEBHOOKS_ENCRYPTION_KEYS is malformed
├── NotDecrypted (ValueError)                   what is stored does not open with the keys there are
├── VerificationFailed (SuspiciousOperation)    a request's signature does not hold
│   └── TimestampRefused                        it holds, but its time is too far from now
├── Rejected                                    a received request is refused
├── InvalidPayload (ValueError)                 a received body is not what its type says
├── NoHandler                                   no view takes the messages of a path any more
├── UnusableList (ValueError)                   what was loaded is no list of networks
├── AppendOnly (TypeError)                      somebody tried to change the audit trail
├── RetryLater                                  a task is to run again at a moment
├── guarded.NotAllowed (requests.ConnectionError)   a URL leads where requests may not go
└── guarded.TooLarge (requests.ConnectionError)     an answer is larger than what is read

Each is also of the type in brackets, which callers may handle already. The last two are in
:mod:`.guarded`, the only module that needs ``requests``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from django.core.exceptions import ImproperlyConfigured, SuspiciousOperation

if TYPE_CHECKING:
    from datetime import datetime

__all__ = [
    "AppendOnly",
    "InvalidKey",
    "InvalidPayload",
    "InvalidSecret",
    "NoHandler",
    "NotDecrypted",
    "NothingToReplay",
    "PayloadError",
    "PayloadTooLarge",
    "Rejected",
    "RetryLater",
    "TimestampRefused",
    "UnknownEventType",
    "UnusableList",
    "VerificationFailed",
    "WebhooksError",
]


class WebhooksError(Exception):
    """The root of all errors of this app. Catch it; raise one of those below."""


class UnknownEventType(WebhooksError, LookupError):
    """Raised by ``emit``, and by hooks, for an event type that is not in the catalog.

    Declare it with ``catalog.declare``, or set WEBHOOKS_ALLOW_UNKNOWN_EVENT_TYPES.
    """


class PayloadError(WebhooksError, ValueError):
    """Raised by ``emit`` for data that JSON has no place for; nothing was written.

    Give numbers, texts, lists, dictionaries, dates, Decimal and UUID.
    """


class PayloadTooLarge(PayloadError):
    """Raised by ``emit`` for a body larger than WEBHOOKS_MAX_PAYLOAD_BYTES; nothing was written.

    Send ids rather than contents, which the receiver asks for, or allow more bytes.
    """


class NothingToReplay(WebhooksError, ValueError):
    """Raised by ``replays.start`` where all that was selected waits, or has arrived.

    Nothing is left to do.
    """


class InvalidSecret(WebhooksError, ValueError):
    """Raised for a signing secret that is none of ``whsec_…``, ``whsk_…`` and ``whpk_…``.

    Let ``signing.generate_secret`` make one, or copy it whole.
    """


class InvalidKey(WebhooksError, ImproperlyConfigured):
    """Raised where a key of WEBHOOKS_ENCRYPTION_KEYS is malformed.

    Let ``manage.py webhooks_generate_key`` make one.
    """


class NotDecrypted(WebhooksError, ValueError):
    """Raised where a stored URL, credential or key does not open.

    With ``is_key_missing`` add the key that it was encrypted with to WEBHOOKS_ENCRYPTION_KEYS
    again; without it the column was changed, or moved, and has to be entered anew.
    """

    def __init__(self, message: str, *, is_key_missing: bool) -> None:
        super().__init__(message)
        self.is_key_missing = is_key_missing


class VerificationFailed(WebhooksError, SuspiciousOperation):
    """Raised by ``signing.verify`` and by schemes for a request whose signature does not hold.

    Let it pass: Django answers it with 400. Raise it in a scheme of your own.
    """


class TimestampRefused(VerificationFailed):
    """Raised where a signature holds, but was made too long ago or in the future.

    Check both clocks. ``offset`` is by how many seconds the sender's seems to be ahead of ours;
    below 0, behind.
    """

    def __init__(self, offset: float, *, tolerance: int) -> None:
        where = "ahead of" if offset > 0 else "behind"
        super().__init__(
            f"The signature holds, but its timestamp is {abs(offset):.0f} seconds {where} our "
            f"clock, more than the {tolerance} that are taken: check both clocks, or the request "
            "was captured and sent again."
        )
        self.offset = offset


class Rejected(WebhooksError):
    """Raised by ``Guard.check`` for a request that is refused; raise it in a handshake of your own.

    Answer with ``status`` and ``headers``; ``reason`` is a word, which is the body of the answer.
    """

    def __init__(
        self,
        reason: str,
        status: int,
        detail: str = "",
        *,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail or reason)
        self.reason, self.status, self.headers = reason, status, dict(headers or {})


class InvalidPayload(WebhooksError, ValueError):
    """Raised by ``Message.payload`` where a received body is not what its content type says.

    Let it pass: the sender is answered with 400.
    """


class NoHandler(WebhooksError):
    """Raised by a worker where no view takes the messages of a path any more.

    Put the view back, or cancel the messages in the admin.
    """


class UnusableList(WebhooksError, ValueError):
    """Raised by ``webhooks_networks`` for what is no list of networks, or not to be trusted unseen.

    The list that is there stays. Look at the new one, and use ``--force`` where it is right.
    """


class AppendOnly(WebhooksError, TypeError):
    """Raised by every attempt to change or delete an entry of the audit trail: only add to it."""


class RetryLater(WebhooksError):
    """Raised inside tasks, for Celery: the message comes back at the moment ``at``."""

    def __init__(self, at: datetime) -> None:
        super().__init__(at)
        self.at = at

    def __str__(self) -> str:
        return f"next attempt at {self.at.isoformat(timespec='seconds')}"

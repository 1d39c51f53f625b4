"""What can go wrong, as a tree.

WebhooksError
├── PayloadError (ValueError)         the data of an event cannot be sent
│   └── PayloadTooLarge
├── UnknownEventType (LookupError)    nobody declared this event type
├── InvalidSecret (ValueError)        a signing secret is malformed
├── InvalidKey (ImproperlyConfigured) a key of WEBHOOKS_ENCRYPTION_KEYS is malformed
├── NotDecrypted (ValueError)         what is stored does not open with the keys there are
├── AppendOnly (TypeError)            somebody tried to change the audit trail
├── VerificationFailed (SuspiciousOperation)   a request's signature does not hold
└── RetryLater                        a delivery is to be attempted again at a moment
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.core.exceptions import ImproperlyConfigured, SuspiciousOperation

if TYPE_CHECKING:
    from datetime import datetime


class WebhooksError(Exception):
    """Something went wrong in django_webhooks. Do not raise directly."""


class PayloadError(WebhooksError, ValueError):
    """The data of an event cannot be sent as JSON."""


class PayloadTooLarge(PayloadError):
    """The body of an event is larger than WEBHOOKS_MAX_PAYLOAD_BYTES."""


class UnknownEventType(WebhooksError, LookupError):
    """The event type is not in the catalog."""


class InvalidSecret(WebhooksError, ValueError):
    """The signing secret is malformed."""


class InvalidKey(WebhooksError, ImproperlyConfigured):
    """A key of WEBHOOKS_ENCRYPTION_KEYS is malformed."""


class NotDecrypted(WebhooksError, ValueError):
    """What is stored does not open: its key is missing, or it was changed."""

    def __init__(self, message: str, *, is_key_missing: bool) -> None:
        super().__init__(message)
        self.is_key_missing = is_key_missing


class AppendOnly(WebhooksError, TypeError):
    """The audit trail is added to, and nothing else."""


class VerificationFailed(WebhooksError, SuspiciousOperation):
    """The request does not carry a signature that holds; Django answers it with 400."""


class RetryLater(WebhooksError):
    """A delivery is to be attempted again at a moment; the message comes back then."""

    def __init__(self, at: datetime) -> None:
        super().__init__(at)
        self.at = at

    def __str__(self) -> str:
        return f"next attempt at {self.at.isoformat(timespec='seconds')}"

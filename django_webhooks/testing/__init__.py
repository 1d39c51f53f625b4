"""Helpers for a project's own tests: capture events, assert on them, build signed requests.

Imports neither Django's settings nor models before they are needed, because pytest loads this
package as a plugin before it knows of either.
"""

from __future__ import annotations

import contextlib

from .capturing import CapturedWebhooks, WebhooksTestMixin, capture_webhooks
from .signed import SignedRequest, signed_request

__all__ = [
    "CapturedWebhooks",
    "SignedRequest",
    "WebhooksTestMixin",
    "capture_webhooks",
    "signed_request",
]

# The project's tests may run without pytest.
with contextlib.suppress(ImportError):
    from .fixtures import webhooks_outbox  # noqa: F401  # pytest finds it here

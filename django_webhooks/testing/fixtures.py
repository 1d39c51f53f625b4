"""The fixtures of pytest."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .capturing import CapturedWebhooks, capture_webhooks


@pytest.fixture
def webhooks_outbox() -> Iterator[CapturedWebhooks]:
    """Capture the events that the test emits."""
    with capture_webhooks() as captured:
        yield captured

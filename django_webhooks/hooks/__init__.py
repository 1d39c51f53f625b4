"""Model hooks: saves and deletes of registered models become events."""

from __future__ import annotations

from .bulk import WebhookQuerySetMixin, created, deleted, updated
from .model_webhooks import ModelWebhooks
from .muting import muted
from .registry import register, unregister

__all__ = [
    "ModelWebhooks",
    "WebhookQuerySetMixin",
    "created",
    "deleted",
    "muted",
    "register",
    "unregister",
    "updated",
]

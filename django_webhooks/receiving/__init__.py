"""Receiving webhooks: verify where a request comes from, and process each message once.

    from django_webhooks.receiving import GitHub, Message, webhook

    @webhook(scheme=GitHub(), secrets=lambda request: settings.GITHUB_SECRETS)
    def github(request: HttpRequest, message: Message) -> None:
        ...

It needs no subscriptions, and a worker only where handlers run in the background.
"""

from __future__ import annotations

from ..inbox.message import Message
from .guard import Guard, Rejected
from .published import published
from .schemes import GitHub, Scheme, Shopify, Slack, StandardWebhooks, Stripe, Token
from .views import WebhookView, webhook

__all__ = [
    "GitHub",
    "Guard",
    "Message",
    "Rejected",
    "Scheme",
    "Shopify",
    "Slack",
    "StandardWebhooks",
    "Stripe",
    "Token",
    "WebhookView",
    "published",
    "webhook",
]

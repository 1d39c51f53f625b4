"""Receiving webhooks: verify where a request comes from before a handler sees it.

    from django_webhooks.receiving import GitHub, Message, webhook

    @webhook(scheme=GitHub(), secrets=lambda request: settings.GITHUB_SECRETS)
    def github(request: HttpRequest, message: Message) -> None:
        ...

It needs neither subscriptions nor a worker.
"""

from __future__ import annotations

from .guard import Guard, Rejected
from .message import Message
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
    "webhook",
]

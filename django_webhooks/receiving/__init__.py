"""Receiving webhooks: verify where a request comes from, and process each message once.

    from django_webhooks.receiving import GitHub, Message, webhook

    @webhook(scheme=GitHub(), secrets=lambda request: settings.GITHUB_SECRETS)
    def github(request: HttpRequest, message: Message) -> None:
        ...

Receiving needs no subscriptions. To process each message once takes the app
``django_webhooks.inbox``; a worker is needed only where handlers run in the background.
"""

from __future__ import annotations

from ..exceptions import Rejected
from .graph_scheme import MicrosoftGraph
from .guard import Guard, GuardOptions
from .handshakes import (
    CloudEventsHandshake,
    DropboxHandshake,
    EchoHandshake,
    GraphHandshake,
    Handshake,
    MetaHandshake,
    OktaHandshake,
    SlackHandshake,
)
from .hmac_scheme import BodyHmac
from .message import Message
from .schemes import GitHub, Scheme, Shopify, Slack, StandardWebhooks, Stripe, Token
from .url_schemes import HubSpot, Square, Twilio
from .views import WebhookView, webhook

__all__ = [
    "BodyHmac",
    "CloudEventsHandshake",
    "DropboxHandshake",
    "EchoHandshake",
    "GitHub",
    "GraphHandshake",
    "Guard",
    "GuardOptions",
    "Handshake",
    "HubSpot",
    "Message",
    "MetaHandshake",
    "MicrosoftGraph",
    "OktaHandshake",
    "Rejected",
    "Scheme",
    "Shopify",
    "Slack",
    "SlackHandshake",
    "Square",
    "StandardWebhooks",
    "Stripe",
    "Token",
    "Twilio",
    "WebhookView",
    "webhook",
]

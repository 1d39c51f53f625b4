"""django-webhooks, set up like the others: a hook of the model, a Celery worker."""

from __future__ import annotations

from benchmarks.peers.setup import Setup


def subscribe(url: str) -> None:
    """Make a subscription and its endpoint."""
    from django_webhooks.models import Endpoint, Subscription

    subscription = Subscription.objects.create(name="benchmark", event_types=["order.*"])
    Endpoint.objects.create(subscription=subscription, url=url)


def connect() -> None:
    """Register the model."""
    from benchmarks.peers.shop.models import Order
    from django_webhooks.hooks import ModelWebhooks, register

    @register(Order)
    class OrderWebhooks(ModelWebhooks):
        prefix = "order"
        fields = ["id", "text"]


SETUP = Setup(
    distribution="django-webhooks",
    apps=["django_webhooks"],
    subscribe=subscribe,
    connect=connect,
    settings={
        "WEBHOOKS_REQUIRE_HTTPS": False,
        "WEBHOOKS_ALLOWED_NETWORKS": ["127.0.0.0/8"],
    },
)

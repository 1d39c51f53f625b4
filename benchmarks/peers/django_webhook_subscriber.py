"""django-webhook-subscriber: the project sends from its own signal, batches make tasks."""

from __future__ import annotations

import os
from typing import Any

from benchmarks.peers.setup import Setup


def subscribe(url: str) -> None:
    """Make a subscriber of orders, and its subscription."""
    from django.contrib.contenttypes.models import ContentType
    from django_webhook_subscriber.models import WebhookSubscriber, WebhookSubscription

    from benchmarks.peers.shop.models import Order

    subscriber = WebhookSubscriber.objects.create(
        name="benchmark", content_type=ContentType.objects.get_for_model(Order), target_url=url
    )
    WebhookSubscription.objects.create(subscriber=subscriber, event_name="created")


def connect() -> None:
    """Send for each order that is saved, as the documentation has it."""
    from django.db.models.signals import post_save
    from django_webhook_subscriber import send_webhooks

    from benchmarks.peers.shop.models import Order

    def saved(sender: Any, instance: Any, created: bool, **kwargs: Any) -> None:
        send_webhooks(instance, "created" if created else "updated")

    post_save.connect(saved, sender=Order, weak=False)


SETUP = Setup(
    distribution="django-webhook-subscriber",
    apps=["rest_framework", "django_webhook_subscriber"],
    subscribe=subscribe,
    connect=connect,
    settings={"CELERY_RESULT_BACKEND": os.environ.get("PEER_BROKER_URL", "")},
)

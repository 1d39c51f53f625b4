"""django-model-webhooks: a fork of django-webhook under names of its own."""

from __future__ import annotations

from benchmarks.peers.setup import Setup


def subscribe(url: str) -> None:
    """Make the rows that its admin would make."""
    from django_model_webhooks.models import Webhook, WebhookSecret, WebhookTopic

    webhook = Webhook.objects.create(url=url)
    topic, _ = WebhookTopic.objects.get_or_create(name="shop.Order/create")
    webhook.topics.add(topic)
    WebhookSecret.objects.create(webhook=webhook, token="a secret of the benchmark")


SETUP = Setup(
    distribution="django-model-webhooks",
    apps=["django_model_webhooks"],
    subscribe=subscribe,
    settings={"DJANGO_WEBHOOK": {"MODELS": ["shop.Order"]}},
)

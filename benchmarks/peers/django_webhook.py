"""django-webhook: signals of the models that a setting names, a Celery task for each request."""

from __future__ import annotations

from benchmarks.peers.setup import Setup


def subscribe(url: str) -> None:
    """Make the rows that its admin would make."""
    from django_webhook.models import Webhook, WebhookSecret, WebhookTopic

    webhook = Webhook.objects.create(url=url)
    topic, _ = WebhookTopic.objects.get_or_create(name="shop.Order/create")
    webhook.topics.add(topic)
    WebhookSecret.objects.create(webhook=webhook, token="a secret of the benchmark")


SETUP = Setup(
    distribution="django-webhook",
    apps=["django_webhook"],
    subscribe=subscribe,
    settings={"DJANGO_WEBHOOK": {"MODELS": ["shop.Order"]}},
)

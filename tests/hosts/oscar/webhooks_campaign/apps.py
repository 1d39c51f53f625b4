"""The app: whenever the tables are made or emptied, somebody listens to everything."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class CampaignConfig(AppConfig):
    """Listen to all that happens."""

    name = "webhooks_campaign"

    def ready(self) -> None:
        """Subscribe after each migration, and after each flush, which sends the same signal."""
        post_migrate.connect(_subscribe, sender=self)


def _subscribe(using: str, **kwargs: Any) -> None:
    from django_webhooks.models import Subscription

    if not Subscription.objects.using(using).exists():
        Subscription(name="Everything", event_types=["*"]).save(using=using)

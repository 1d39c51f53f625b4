"""The app: what happens when Django starts."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.db.models.signals import post_delete, post_save, pre_delete, pre_save
from django.utils.module_loading import autodiscover_modules
from django.utils.translation import gettext_lazy as _


class WebhooksConfig(AppConfig):
    """Webhooks that arrive."""

    name = "django_webhooks"
    verbose_name = _("Webhooks")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Connect signals, register checks, and import each app's ``webhooks`` module."""
        from . import checks, metrics  # noqa: F401  # importing checks registers them
        from .conf import settings
        from .models import (
            Endpoint,
            EventTypePattern,
            SigningKey,
            Subscription,
            audited,
            permissions,
        )
        from .sending import listeners

        for model in (Subscription, EventTypePattern):
            for signal in (post_save, post_delete):
                signal.connect(listeners.forget_silence, sender=model)
        for row in (Subscription, Endpoint, SigningKey):
            pre_save.connect(audited.before_save, sender=row)
            post_save.connect(audited.after_save, sender=row)
            post_delete.connect(audited.after_delete, sender=row)
        for signal in (post_save, post_delete):
            signal.connect(audited.patterns_changed, sender=EventTypePattern)
        permissions.connect()
        pre_delete.connect(_cancel_deliveries, sender=Subscription)
        metrics.connect()
        autodiscover_modules(settings.WEBHOOKS_AUTODISCOVER_MODULE)


def _cancel_deliveries(*, instance: Any, using: str, **kwargs: Any) -> None:
    # What waits is not dropped silently: it stays, and says why it is over.
    instance.deliveries.using(using).cancel("subscription_deleted")

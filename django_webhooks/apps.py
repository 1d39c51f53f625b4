"""The app: what happens when Django starts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.apps import AppConfig
from django.db.models.signals import post_save, pre_delete, pre_save
from django.utils.module_loading import autodiscover_modules
from django.utils.translation import gettext_lazy as _

from .policies.reasons import Reason


def _save_begins(**named: Any) -> None:
    _hooks["before_save"](**named)


def _save_ended(**named: Any) -> None:
    _hooks["after_save"](**named)


def _ignore(**named: Any) -> None:
    """Nothing is registered before Django has started."""


_hooks: dict[str, Callable[..., None]] = {"before_save": _ignore, "after_save": _ignore}
# Django imports the apps before any models. Receivers are called in the order in which they were
# connected: hooks tell of a save before a receiver of the project, connected beside its models,
# saves the object again. For senders of all kinds, which costs a save a millionth of a second;
# those of deletes are connected one by one, because they cost other models their fast deletes.
pre_save.connect(_save_begins, dispatch_uid="django_webhooks.before_save")
post_save.connect(_save_ended, dispatch_uid="django_webhooks.after_save")


class WebhooksConfig(AppConfig):
    """Webhooks that arrive."""

    name = "django_webhooks"
    verbose_name = _("Webhooks")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Connect signals, register checks, and import each app's ``webhooks`` module."""
        from . import checks, metrics  # noqa: F401  # importing checks registers them
        from .hooks import receivers
        from .models import Endpoint, Subscription, owner
        from .sending.maintenance import deleted_owners

        _hooks.update(before_save=receivers.before_save, after_save=receivers.after_save)
        owner.met.append(deleted_owners.watch)
        deleted_owners.watch_declared()
        pre_delete.connect(_lock_endpoints, sender=Endpoint)
        pre_delete.connect(_cancel_deliveries, sender=Subscription)
        metrics.connect()
        autodiscover_modules("webhooks")


def _lock_endpoints(*, instance: Any, using: str, **kwargs: Any) -> None:
    # Before anything that refers to it is looked for: attempts are recorded meanwhile.
    type(instance).objects.using(using).filter(pk=instance.pk).lock_for_deletion()


def _cancel_deliveries(*, instance: Any, using: str, **kwargs: Any) -> None:
    # In the order of everybody's locks: health, endpoints, deliveries.
    instance.endpoints.using(using).lock_for_deletion()
    # Waiting deliveries are not dropped silently: they stay, and say why they are over.
    instance.deliveries.using(using).cancel(Reason.SUBSCRIPTION_DELETED)

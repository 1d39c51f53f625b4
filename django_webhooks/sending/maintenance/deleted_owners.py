"""Owners that are deleted: what becomes of their subscriptions.

An owner can be of any model, so that no foreign key says what to do. Receivers are connected to
the models of WEBHOOKS_OWNER_MODELS when Django starts, and to others when this process first meets
one of their objects as an owner. An audit finds what was deleted past them.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from django.apps import apps
from django.db import models, router
from django.db.models.signals import pre_delete
from django.utils.translation import gettext

from ... import signals
from ...commits import after_commit, send_after_commit
from ...conf import settings
from ...models import Subscription
from ...models.notification import Notification
from ...models.owner import OwnerKey
from ..database import alias
from ..fan_out import operational

#: Models that are watched, by concrete class.
_watched: set[type[models.Model]] = set()


def watch(model: type[models.Model]) -> None:
    """Hear of deletions of this model's objects, by whichever of its proxies."""
    if model in _watched:
        return
    _watched.add(model)
    for sender in apps.get_models():
        if sender._meta.concrete_model is model:
            pre_delete.connect(_owner_deleted, sender=sender)


def watch_declared() -> None:
    """Watch the models of WEBHOOKS_OWNER_MODELS; a system check tells of names that are wrong."""
    for label in settings.WEBHOOKS_OWNER_MODELS:
        try:
            model = apps.get_model(label)
        except (LookupError, ValueError, AttributeError):
            continue
        watch(model._meta.concrete_model or model)


def _owner_deleted(*, instance: Any, using: str | None = None, **kwargs: Any) -> None:
    if settings.WEBHOOKS_OWNER_DELETED == "keep" or instance.pk is None:
        return
    key, database = OwnerKey.of(instance), alias()
    using = using or router.db_for_write(type(instance), instance=instance)
    end = partial(_end, key, str(instance), using=database)
    if using == database:
        # Before what is deleted with the owner is told: that is recorded and held.
        end()
    elif not after_commit(lambda: end(), using=using):
        end()


def _end(key: OwnerKey, name: str, *, using: str) -> None:
    rows = Subscription.objects.using(using).filter(owner_type=key.type, owner_id=key.id)
    if settings.WEBHOOKS_OWNER_DELETED == "delete":
        for subscription in rows:
            subscription.delete(using=using)
        return
    for subscription in rows.exclude(status=Subscription.Status.DISABLED):
        _disable(subscription, name, using=using)


def _disable(subscription: Subscription, name: str, *, using: str) -> None:
    reason = gettext("Its owner, %(owner)s, was deleted.") % {"owner": name[:120]}
    subscription.disable(reason)
    operational.note(
        Notification.Kind.DISABLED, subscription, {"reason": "owner_deleted"}, using=using
    )
    send_after_commit(
        signals.subscription_disabled,
        sender=Subscription,
        using=using,
        subscription=subscription,
        reason=reason,
    )

"""Receivers of Django's signal of many-to-many changes: find out whose relations changed."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from django.db import models

from . import coalescing, receivers, telling
from .model_webhooks import ModelWebhooks, concrete_of
from .muting import is_muted

#: The hooks and fields of each many-to-many table that is told of.
fields: dict[type[models.Model], list[tuple[ModelWebhooks, str]]] = {}

_AFFECTED = "_webhooks_affected"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Change:
    """A many-to-many change, as the signal describes it."""

    instance: models.Model
    action: str
    reverse: bool
    keys: Collection[Any]
    using: str


def after_m2m_change(
    sender: type[models.Model],
    instance: models.Model,
    action: str,
    reverse: bool,
    pk_set: set[Any] | None,
    using: str,
    **kwargs: Any,
) -> None:
    """Tell that the relations of objects changed, from whichever side."""
    if is_muted() or action == "pre_add":
        return
    change = _Change(
        instance=instance, action=action, reverse=reverse, keys=pk_set or (), using=using
    )
    for hook, name in fields[sender]:
        if telling.is_heard(hook, "updated") or coalescing.applies(hook, using=using):
            _follow(hook, name, change)


def _follow(hook: ModelWebhooks, name: str, change: _Change) -> None:
    waiting = change.instance.__dict__.setdefault(_AFFECTED, {})
    if change.action.startswith("pre_"):
        # Afterwards nobody knows who was related.
        waiting[hook.model, name] = _affected(hook, name, change)
        return
    if change.action == "post_add":
        affected = _affected(hook, name, change)
    else:
        affected = waiting.pop((hook.model, name), [])
    if not waiting:
        del change.instance.__dict__[_AFFECTED]
    for one in affected:
        stored = telling.as_stored(one, using=change.using)
        receivers.tell(hook, stored, "updated", changed=[name], using=change.using)


def _affected(hook: ModelWebhooks, name: str, change: _Change) -> list[models.Model]:
    """Return the objects of the hook whose relations are about to change, or just have."""
    rows = hook.model._base_manager.using(change.using)
    affected: list[models.Model] = []
    if not change.reverse:
        affected += _near(hook, name, change, rows)
    if change.reverse or _is_symmetrical(hook, name):
        affected += _far(name, change, rows)
    return affected


def _near(hook: ModelWebhooks, name: str, change: _Change, rows: Any) -> list[models.Model]:
    own = rows.filter(pk=change.instance.pk)
    match change.action:
        case "post_add":
            is_affected = bool(change.keys)
        case "pre_remove":
            is_affected = own.filter(**{f"{name}__in": change.keys}).exists()
        case _:
            is_affected = own.filter(**{f"{name}__isnull": False}).exists()
    if not is_affected:
        return []
    if isinstance(change.instance, concrete_of(hook.model)):
        return [change.instance]
    return list(own)


def _far(name: str, change: _Change, rows: Any) -> list[models.Model]:
    others = rows
    if change.action != "post_add":
        related = rows.filter(**{name: change.instance.pk})
        others = others.filter(pk__in=related.values("pk"))
    if change.action != "pre_clear":
        others = others.filter(pk__in=change.keys)
    return list(others.order_by("pk"))


def _is_symmetrical(hook: ModelWebhooks, name: str) -> bool:
    field: Any = hook.model._meta.get_field(name)
    return bool(field.remote_field.symmetrical)

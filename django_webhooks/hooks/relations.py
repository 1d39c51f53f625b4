"""Receivers of Django's signal of many-to-many changes: find out whose relations changed."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from django.apps import apps
from django.db import models

from . import bulk, coalescing, drafts, receivers, stored
from .model_webhooks import ModelWebhooks, concrete_of
from .muting import is_muted

#: The hooks and fields of each many-to-many table that is told of.
fields: dict[type[models.Model], list[tuple[ModelWebhooks, str]]] = {}

_ACTIONS = {"post_add", "pre_remove", "post_remove", "pre_clear", "post_clear"}
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
    instance: models.Model | None = None,
    action: str = "",
    reverse: bool = False,
    pk_set: Collection[Any] | None = None,
    using: str | None = None,
    **kwargs: Any,
) -> None:
    """Tell that the relations of objects changed, from whichever side."""
    if action not in _ACTIONS or is_muted():
        return
    if not isinstance(instance, models.Model) or instance.pk is None:
        return
    database = drafts.database_of(instance, using)
    change = _Change(
        instance=instance, action=action, reverse=reverse, keys=pk_set or (), using=database
    )
    for hook, name in fields.get(sender, ()):
        is_heard, coalesces = coalescing.heard(hook, "updated", using=database)
        if is_heard or coalesces:
            _follow(hook, name, change, coalesces=coalesces)


def is_through(model: type[models.Model]) -> bool:
    """Say whether the rows of a many-to-many field are of this model."""
    return any(True for _ in _fields_through(model))


def after_rows_were_added(
    sender: type[models.Model],
    instance: models.Model | None = None,
    action: str = "",
    reverse: bool = False,
    pk_set: Collection[Any] | None = None,
    using: str | None = None,
    **kwargs: Any,
) -> None:
    """Tell that rows of a registered ``through`` model were created.

    Django creates them all at once, which sends no signal, and deletes them one by one.
    """
    hook = drafts.hooks.get(concrete_of(sender))
    if hook is None or action != "post_add" or not pk_set or is_muted():
        return
    if not isinstance(instance, models.Model) or not drafts.is_heard(hook, "created"):
        return
    field: Any = next(_fields_through(sender))
    ends = field.m2m_field_name(), field.m2m_reverse_field_name()
    field_of: Any = sender._meta.get_field
    near, far = (field_of(one) for one in (ends[::-1] if reverse else ends))
    database = drafts.database_of(instance, using)
    rows: Any = models.QuerySet(sender, using=database).order_by("pk")
    found = rows.filter(**{near.name: instance, f"{far.attname}__in": pk_set})
    bulk.tell(((row, ()) for row in found), "created", is_stored=True)


def _fields_through(model: type[models.Model]) -> Iterator[Any]:
    for one in apps.get_models(include_auto_created=True):
        for field in one._meta.local_many_to_many:
            if getattr(field.remote_field, "through", None) is model:
                yield field


def _follow(hook: ModelWebhooks, name: str, change: _Change, *, coalesces: bool) -> None:
    waiting = change.instance.__dict__.setdefault(_AFFECTED, {})
    if change.action.startswith("pre_"):
        # Afterwards nobody knows who was related.
        waiting[hook.model, name] = _affected(hook, name, change)
        return
    affected = waiting.pop((hook.model, name), None)
    if affected is None and change.action != "post_clear":
        affected = _affected(hook, name, change)
    if not waiting:
        del change.instance.__dict__[_AFFECTED]
    for one in affected or ():
        found = stored.read(one, using=change.using) if one is change.instance else (one,)
        if found is not None:
            receivers.tell(
                hook, found[0], "updated", changed=[name], coalesces=coalesces, using=change.using
            )


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
        case "post_add" | "post_remove":
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
    if change.action.startswith("pre_"):
        related = rows.filter(**{name: change.instance.pk})
        others = others.filter(pk__in=related.values("pk"))
    if change.action != "pre_clear":
        others = others.filter(pk__in=change.keys)
    return list(others.order_by("pk"))


def _is_symmetrical(hook: ModelWebhooks, name: str) -> bool:
    field: Any = hook.model._meta.get_field(name)
    return bool(field.remote_field.symmetrical)

"""Receivers of Django's signals of saves and deletes: find out what changed, and tell it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db import models

from ..sending import statements
from . import coalescing, telling, values
from .model_webhooks import ModelWebhooks, concrete_of
from .muting import is_muted

_Row = dict[str, Any]
_BEFORE, _LAST = "_webhooks_before", "_webhooks_last"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Before:
    """What a save finds: the rows as they are, and what the database will compute."""

    rows: Mapping[type[models.Model], _Row | None] = field(default_factory=dict)
    computed: frozenset[str] = frozenset()


def before_save(
    sender: type[models.Model],
    instance: models.Model,
    raw: bool,
    using: str,
    update_fields: frozenset[str] | None = None,
    **kwargs: Any,
) -> None:
    """Read the row as it is, where somebody listens to its changes."""
    before = _Before() if raw or is_muted() else _read(sender, instance, update_fields, using=using)
    # A stack: receivers of the project may save the object again before we are told of this save.
    instance.__dict__.setdefault(_BEFORE, []).append(before)


def after_save(
    sender: type[models.Model],
    instance: models.Model,
    created: bool,
    raw: bool,
    using: str,
    update_fields: frozenset[str] | None,
    **kwargs: Any,
) -> None:
    """Tell that an object was created, or what of it was updated."""
    before = _pop(instance)
    if raw or is_muted():
        return
    stored: models.Model | None = None
    for hook in telling.hooks_of(sender):
        # A new child of an old parent creates no parent.
        is_new = created and not before.rows.get(hook.model)
        action = "created" if is_new else "updated"
        if not (telling.is_heard(hook, action) or coalescing.applies(hook, using=using)):
            continue
        if stored is None:
            computed = before.computed | (set() if created else _generated(instance))
            stored = telling.as_stored(instance, using=using, computed=computed)
        changed = [] if is_new else _changed(hook, stored, before, update_fields)
        tell(hook, stored, action, changed=changed, using=using)


def before_delete(
    sender: type[models.Model], instance: models.Model, using: str, **kwargs: Any
) -> None:
    """Take the last state, while there is one."""
    instance.__dict__.pop(_LAST, None)
    hook = telling.hooks[concrete_of(sender)]
    if is_muted():
        return
    draft = None
    if telling.is_heard(hook, "deleted"):
        stored = telling.as_stored(instance, using=using)
        draft = telling.draft_of(hook, stored, "deleted")
    if draft is not None or coalescing.applies(hook, using=using):
        instance.__dict__[_LAST] = (draft,)


def after_delete(
    sender: type[models.Model], instance: models.Model, using: str, **kwargs: Any
) -> None:
    """Tell that an object was deleted, and what it was."""
    for draft in instance.__dict__.pop(_LAST, ()):
        hook = telling.hooks[concrete_of(sender)]
        if coalescing.applies(hook, using=using):
            coalescing.tell(hook, instance, "deleted", last=draft, using=using)
        else:
            telling.emit([draft] if draft is not None else [], using=using)


def tell(
    hook: ModelWebhooks,
    instance: models.Model,
    action: str,
    *,
    using: str,
    changed: Sequence[str] = (),
) -> None:
    """Tell that an object was created or updated; ask before whether somebody may listen."""
    if coalescing.applies(hook, using=using):
        coalescing.tell(hook, instance, action, changed=changed, using=using)
        return
    draft = telling.draft_of(hook, instance, action, changed=changed)
    if draft is not None:
        telling.emit([draft], using=using)


def _read(
    sender: type[models.Model],
    instance: models.Model,
    update_fields: frozenset[str] | None,
    *,
    using: str,
) -> _Before:
    rows: dict[type[models.Model], _Row | None] = {}
    for hook in telling.hooks_of(sender):
        if (
            _may_exist(hook, instance)
            and _saved(hook, update_fields)
            and telling.is_heard(hook, "updated")
        ):
            key = telling.key_of(hook, instance)
            rows[hook.model] = statements.row(hook.model, key, hook.watched_columns, using=using)
    state = vars(instance).items()
    return _Before(
        rows=rows,
        computed=frozenset(name for name, value in state if values.is_expression(value)),
    )


def _may_exist(hook: ModelWebhooks, instance: models.Model) -> bool:
    if telling.key_of(hook, instance) is None:
        return False
    if not instance._state.adding:
        return True
    # A new object may have the key of an old row: one given by hand, or that of its parent.
    return not hook.model._meta.pk.has_default()


def _saved(
    hook: ModelWebhooks, update_fields: frozenset[str] | None
) -> Mapping[str, models.Field[Any, Any]]:
    """Return the watched fields that the save writes."""
    if update_fields is None:
        return hook.watched
    return {
        name: one
        for name, one in hook.watched.items()
        if name in update_fields or one.attname in update_fields
    }


def _generated(instance: models.Model) -> set[str]:
    fields = instance._meta.concrete_fields
    return {one.attname for one in fields if getattr(one, "generated", False)}


def _pop(instance: models.Model) -> _Before:
    stack: list[_Before] = instance.__dict__[_BEFORE]
    before = stack.pop()
    if not stack:
        del instance.__dict__[_BEFORE]
    return before


def _changed(
    hook: ModelWebhooks,
    instance: models.Model,
    before: _Before,
    update_fields: frozenset[str] | None,
) -> list[str]:
    if hook.model not in before.rows:
        # Nobody listened when the save began, or it writes nothing that is watched.
        return []
    row, now = before.rows[hook.model], vars(instance)
    return [
        name
        for name, one in _saved(hook, update_fields).items()
        # A deferred field is not saved.
        if one.attname in now
        # A row that appeared during the save: what changed is not known.
        and (row is None or values.differ(one, now[one.attname], row[one.attname]))
    ]

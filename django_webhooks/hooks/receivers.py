"""Receivers of Django's signals of saves and deletes: find out what changed, and tell it.

Django sends these signals in pairs, with all their arguments. Others send them by hand: after an
update of a query set, one without the other, with the arguments that their own receivers need. A
signal that was sent by hand tells as much as the database can confirm.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db import models

from ..sending.database import compiled_sql
from ..sending.recording import Draft
from . import coalescing, stored, values
from . import drafts as drafting
from .model_webhooks import ModelWebhooks, concrete_of
from .muting import is_muted
from .stored import Row

_SAVES, _LAST = "_webhooks_saves", "_webhooks_last"
#: Django always gives the argument: who leaves it out is not Django.
_LEFT_OUT: Any = object()


@dataclass(slots=True, kw_only=True)
class _Save:
    """A save under way: the rows as it finds them, by the model of the hook; None for no row."""

    rows: dict[type[models.Model], Row | None] = field(default_factory=dict)
    #: Models of hooks whose updates nobody heard when the save began: it is not asked once more.
    unheard: set[type[models.Model]] = field(default_factory=set)


def before_save(
    instance: models.Model | None = None,
    raw: bool = False,
    using: str | None = None,
    update_fields: Collection[str] | None = None,
    **kwargs: Any,
) -> None:
    """Read the row as it is, where somebody listens to its changes."""
    hooks = _hooks_of(instance, raw=raw)
    if instance is None or not hooks:
        return
    save = _Save()
    if not is_muted():
        database = drafting.database_of(instance, using)
        _read(save, instance, hooks, update_fields, using=database)
        for outer in instance.__dict__.get(_SAVES, ()):
            _tell_of_outer(outer, instance, hooks, save.rows, using=database)
    # A stack: receivers of the project may save the object again before we are told of this save.
    instance.__dict__.setdefault(_SAVES, []).append(save)


def after_save(
    instance: models.Model | None = None,
    created: bool = False,
    raw: bool = False,
    using: str | None = None,
    update_fields: Collection[str] | None = _LEFT_OUT,
    **kwargs: Any,
) -> None:
    """Tell that an object was created, or what of it was updated."""
    hooks = _hooks_of(instance, raw=raw)
    if instance is None or not hooks:
        return
    save = _pop(instance)
    if is_muted() or instance.pk is None:
        return
    by_hand = save is None or update_fields is _LEFT_OUT
    written = None if update_fields is _LEFT_OUT else update_fields
    database = drafting.database_of(instance, using)
    found: tuple[models.Model, Row] | None = None
    for hook in hooks:
        before = None if save is None else save.rows.get(hook.model)
        # A new child of an old parent creates no parent.
        is_new = created and not before
        action = "created" if is_new else "updated"
        if save is not None and not is_new and hook.model in save.unheard:
            continue
        is_heard, coalesces = coalescing.heard(hook, action, using=database)
        if not (is_heard or coalesces):
            continue
        if not (is_new or by_hand or coalesces or hook.reread or hook.has_generated):
            now = vars(instance)
            # Django 6 defers what was saved as an expression, where the database returns no values.
            is_known = all(one.attname in now for one in _saved(hook, written).values())
            if is_known and not _changed(hook, now, save, written):
                continue
        if found is None:
            found = (
                stored.read(instance, using=database)
                if by_hand or any(one.reread for one in hooks)
                else stored.after_write(instance, written=written, before=before, using=database)
            )
        if found is None:
            # Who sent the signal by hand did not save the object.
            return
        state, row = found
        changed = [] if is_new else _changed(hook, row, save, written)
        if hook.replaced.intersection(changed):
            changed = _as_read(hook, changed, before, state, using=database)
        tell(hook, state, action, changed=changed, coalesces=coalesces, using=database)
        for outer in instance.__dict__.get(_SAVES, ()):
            # What is told already is no change of a save that this one was made within.
            outer.rows[hook.model] = dict(row)


def _tell_of_outer(
    outer: _Save,
    instance: models.Model,
    hooks: Iterable[ModelWebhooks],
    rows: Mapping[type[models.Model], Row | None],
    *,
    using: str,
) -> None:
    """Tell of a save that has written its row, before one that a receiver makes within it."""
    for hook in hooks:
        now = rows.get(hook.model)
        if not now or hook.model not in outer.rows:
            continue
        action = "updated" if outer.rows[hook.model] else "created"
        changed = [] if action == "created" else _changed(hook, now, outer, None)
        outer.rows[hook.model] = now
        if not (changed or action == "created"):
            continue
        is_heard, coalesces = coalescing.heard(hook, action, using=using)
        found = stored.read(instance, using=using) if is_heard else None
        if found is not None:
            tell(hook, found[0], action, changed=changed, coalesces=coalesces, using=using)


def before_delete(
    sender: Any,
    instance: models.Model | None = None,
    using: str | None = None,
    origin: Any = None,
    **kwargs: Any,
) -> None:
    """Take the last state, while there is one."""
    hook = _hook_of_deleted(sender, instance)
    if instance is None or hook is None:
        return
    instance.__dict__[_LAST] = ()
    if is_muted():
        return
    database = drafting.database_of(instance, using)
    draft = None
    is_heard, coalesces = coalescing.heard(hook, "deleted", using=database)
    if is_heard:
        draft = _last_of(hook, instance, is_fresh=_is_fresh(instance, origin), using=database)
    if draft is not None or coalesces:
        instance.__dict__[_LAST] = (draft,)


def after_delete(
    sender: Any,
    instance: models.Model | None = None,
    using: str | None = None,
    **kwargs: Any,
) -> None:
    """Tell that an object was deleted, and what it was."""
    hook = _hook_of_deleted(sender, instance)
    if instance is None or hook is None:
        return
    database = drafting.database_of(instance, using)
    drafts = instance.__dict__.pop(_LAST, None)
    if drafts is None and not is_muted() and drafting.is_heard(hook, "deleted"):
        # Sent by hand, without the signal before.
        drafts = [_last_of(hook, instance, is_fresh=False, using=database)]
    for draft in drafts or ():
        # Somebody hears an action of the hook, or there would be no draft.
        if coalescing.may_apply(hook, using=database):
            coalescing.tell(hook, instance, "deleted", last=draft, using=database)
        elif draft is not None:
            drafting.emit([draft], using=database)


def tell(
    hook: ModelWebhooks,
    instance: models.Model,
    action: str,
    *,
    using: str,
    changed: Sequence[str] = (),
    coalesces: bool,
) -> None:
    """Tell that an object was created or updated; ask before whether somebody may listen.

    ``coalesces`` is what :func:`.coalescing.heard` says.
    """
    if coalesces:
        coalescing.tell(hook, instance, action, changed=changed, using=using)
        return
    draft = drafting.draft_of(hook, instance, action, changed=changed)
    if draft is not None:
        drafting.emit([draft], using=using)


def _hooks_of(instance: Any, *, raw: bool) -> Sequence[ModelWebhooks]:
    if not isinstance(instance, models.Model):
        return ()
    hooks = drafting.hooks_of(type(instance))
    return [hook for hook in hooks if hook.raw] if raw else hooks


def _hook_of_deleted(sender: Any, instance: Any) -> ModelWebhooks | None:
    if not isinstance(instance, models.Model) or instance.pk is None:
        return None
    hook = drafting.hooks.get(concrete_of(sender))
    return hook if hook is not None and isinstance(instance, concrete_of(hook.model)) else None


def _read(
    save: _Save,
    instance: models.Model,
    hooks: Iterable[ModelWebhooks],
    update_fields: Collection[str] | None,
    *,
    using: str,
) -> None:
    for hook in hooks:
        if not _may_exist(hook, instance):
            save.rows[hook.model] = None
            continue
        is_saved, is_heard, coalesces = bool(_saved(hook, update_fields)), False, False
        if is_saved or coalescing.may_apply(hook, using=using):
            is_heard, coalesces = coalescing.heard(hook, "updated", using=using)
        if not coalesces and not (is_saved and is_heard):
            save.unheard.add(hook.model)
        elif is_saved and is_heard:
            names = hook.watched_columns
            if update_fields is not None or hook.replaced:
                # What is not saved may differ in memory from what the database has.
                names = hook.columns
            key = drafting.key_of(hook, instance)
            save.rows[hook.model] = compiled_sql.row(hook.model, key, names, using=using)


def _may_exist(hook: ModelWebhooks, instance: models.Model) -> bool:
    if drafting.key_of(hook, instance) is None:
        return False
    if not instance._state.adding:
        return True
    # A new object may have the key of an old row: one given by hand, or that of its parent.
    return not hook.model._meta.pk.has_default()


def _saved(
    hook: ModelWebhooks, update_fields: Collection[str] | None
) -> dict[str, models.Field[Any, Any]]:
    """Return the watched fields that the save writes, or the database with it."""
    if update_fields is None:
        return hook.watched
    return {
        name: one
        for name, one in hook.watched.items()
        if name in update_fields or one.attname in update_fields or getattr(one, "generated", False)
    }


def _pop(instance: models.Model) -> _Save | None:
    stack: list[_Save] | None = instance.__dict__.get(_SAVES)
    if not stack:
        return None
    save = stack.pop()
    if not stack:
        del instance.__dict__[_SAVES]
    return save


def _changed(
    hook: ModelWebhooks,
    now: Row,
    save: _Save | None,
    written: Collection[str] | None,
) -> list[str]:
    saved = _saved(hook, written)
    if save is None:
        # Sent by hand, without the signal before: what changed is not known.
        return list(saved)
    if hook.model not in save.rows:
        # Nobody listened when the save began, or it writes nothing that is watched.
        return []
    row = save.rows[hook.model]
    return [
        name
        for name, one in saved.items()
        # A deferred field is not saved.
        if one.attname in now
        # A row that appeared during the save: what changed is not known.
        and (
            row is None
            or one.attname not in row
            or values.differ(one, now[one.attname], row[one.attname])
        )
    ]


def _as_read(
    hook: ModelWebhooks,
    changed: Sequence[str],
    before: Row | None,
    instance: models.Model,
    *,
    using: str,
) -> list[str]:
    """Leave out fields that read the same, although their columns do not.

    That is what translated models make of the column of the field that they translate: a copy of
    the language in which the object was last saved.
    """
    if before is None or not all(name in before for name in hook.columns):
        return list(changed)
    then = hook.model.from_db(using, hook.columns, [before[name] for name in hook.columns])
    with drafting.in_one_language():
        return [
            name
            for name in changed
            if name not in hook.replaced
            or values.differ(
                hook.watched[name],
                getattr(then, hook.watched[name].attname),
                getattr(instance, hook.watched[name].attname),
            )
        ]


def _is_fresh(instance: models.Model, origin: Any) -> bool:
    """Say whether a deletion has just read the object from the database.

    It does so with all but the object that it began with, and the parents of that one.
    """
    if isinstance(origin, models.QuerySet):
        return True
    if not isinstance(origin, models.Model) or instance is origin:
        return False
    return type(instance) is type(origin) or not isinstance(origin, type(instance))


def _last_of(
    hook: ModelWebhooks, instance: models.Model, *, is_fresh: bool, using: str
) -> Draft | None:
    if not is_fresh:
        found = stored.read(instance, using=using) or stored.remembered(instance, using=using)
        instance = found[0]
    return drafting.draft_of(hook, instance, "deleted")

"""Permissions: changes of who may do what with webhooks are noted in the audit trail.

Works with any user model that has Django's permissions, and does nothing where there is none.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from functools import partial
from typing import Any

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.db import Error, models, router, transaction
from django.db.models.signals import m2m_changed, post_save, pre_delete, pre_save

from .audit_entry import AuditEntry, Note

logger = logging.getLogger(__name__)

#: Fields of a user that give, or take, everything at once.
FLAGS = ("is_active", "is_staff", "is_superuser")
_APP = "django_webhooks"
_CHANGED = "_webhooks_flags"


def connect() -> None:
    """Listen to changes of users and groups, where the project has them."""
    if not apps.is_installed("django.contrib.auth"):
        return
    from django.contrib.auth import get_user_model
    from django.contrib.auth.models import Group, Permission

    try:
        user = get_user_model()
    except ImproperlyConfigured:
        return
    holders: list[tuple[Any, str, Any]] = [(Group, "permissions", Permission)]
    for name, target in (("user_permissions", Permission), ("groups", Group)):
        field: Any = next((one for one in user._meta.many_to_many if one.name == name), None)
        if field is not None and field.related_model is target:
            holders.append((user, name, target))
    for model, name, _ in holders:
        through = getattr(model, name).through
        m2m_changed.connect(_members_changed, sender=through, dispatch_uid=f"{_APP}.{through}")
    if any(hasattr(user, one) for one in FLAGS):
        pre_save.connect(_before_user, sender=user, dispatch_uid=f"{_APP}.before_user")
        post_save.connect(_after_user, sender=user, dispatch_uid=f"{_APP}.after_user")
    for model in (user, Group):
        pre_delete.connect(_holder_deleted, sender=model, dispatch_uid=f"{_APP}.deleted")


def held_by(holder: models.Model) -> set[str]:
    """Return the permissions of this app that a user or a group has by itself."""
    name = "permissions" if holder._meta.label == "auth.Group" else "user_permissions"
    permissions = getattr(holder, name, None)
    return set() if permissions is None else _codenames(permissions.all())


def _codenames(permissions: Any) -> set[str]:
    rows = permissions.filter(content_type__app_label=_APP)
    return set(rows.values_list("codename", flat=True))


def _members_changed(
    *,
    sender: Any,
    instance: Any,
    action: str,
    reverse: bool,
    model: Any,
    pk_set: Any,
    using: str,
    **kwargs: Any,
) -> None:
    """Note what was given to whom, or taken from whom, from either side."""
    # What is there is only known before it is cleared.
    done = {"post_add": "added", "post_remove": "removed", "pre_clear": "removed"}.get(action)
    if done is None:
        return
    if action == "pre_clear":
        pk_set = _linked(sender, instance, model, using=using)
    others = list(model._base_manager.using(using).filter(pk__in=pk_set or ()))
    pairs = [(one, instance) if reverse else (instance, one) for one in others]
    by_holder: dict[Any, list[Any]] = {}
    for holder, given in pairs:
        by_holder.setdefault(holder, []).append(given)
    notes = [_given(holder, given, done) for holder, given in by_holder.items()]
    _note([one for one in notes if one is not None], using=using)


def _linked(through: Any, instance: Any, model: Any, *, using: str) -> Collection[Any]:
    ends = {field.related_model: field for field in through._meta.fields if field.related_model}
    near, far = ends[instance._meta.concrete_model], ends[model]
    rows = through._base_manager.using(using).filter(**{near.attname: instance.pk})
    return list(rows.values_list(far.attname, flat=True))


def _given(holder: Any, given: list[Any], done: str) -> Note | None:
    if given[0]._meta.label == "auth.Permission":
        names = sorted(one.codename for one in given if one.content_type.app_label == _APP)
        what, detail = "permissions", {"permissions": names}
    else:
        names = sorted(str(one) for one in given if held_by(one))
        what, detail = "groups", {"groups": names}
    if not names:
        return None
    kind = "group" if holder._meta.label == "auth.Group" else "user"
    return Note(action=f"{kind}.{what}_{done}", subject=holder, detail=detail)


def _before_user(*, sender: Any, instance: Any, using: str, **kwargs: Any) -> None:
    columns = kwargs.get("update_fields")
    wanted = [one for one in FLAGS if _is_column(sender, one) and (not columns or one in columns)]
    instance.__dict__[_CHANGED] = {}
    if not wanted or (columns is not None and not columns):
        return
    new: dict[str, Any] = {name: bool(getattr(instance, name)) for name in wanted}
    if instance._state.adding:
        # What anybody is when they are made is nothing to tell.
        old: dict[str, Any] = {
            "is_active": new.get("is_active"),
            "is_staff": False,
            "is_superuser": False,
        }
    else:
        rows = sender._base_manager.using(using).filter(pk=instance.pk)
        old = rows.values(*wanted).first() or new
    instance.__dict__[_CHANGED] = {
        name: value for name, value in new.items() if old.get(name) != value
    }


def _is_column(model: Any, name: str) -> bool:
    return any(field.name == name for field in model._meta.concrete_fields)


def _after_user(*, instance: Any, using: str, **kwargs: Any) -> None:
    changed = instance.__dict__.pop(_CHANGED, None)
    if changed:
        _note([Note(action="user.changed", subject=instance, detail=changed)], using=using)


def _holder_deleted(*, instance: Any, using: str, **kwargs: Any) -> None:
    held = sorted(held_by(instance))
    groups = getattr(instance, "groups", None)
    given = groups is not None and any(held_by(one) for one in groups.all())
    if not (held or given or getattr(instance, "is_superuser", False)):
        return
    kind = "group" if instance._meta.label == "auth.Group" else "user"
    detail = {"permissions": held}
    _note([Note(action=f"{kind}.deleted", subject=instance, detail=detail)], using=using)


def _note(notes: list[Note], *, using: str) -> None:
    if not notes:
        return
    ours = router.db_for_write(AuditEntry)
    if using == ours:
        _try_to_note(notes, using=ours)
    else:
        # Users live in another database: what is rolled back there was not done.
        later: Callable[[], None] = partial(_try_to_note, notes, using=ours)
        transaction.on_commit(lambda: later(), using=using)


def _try_to_note(notes: list[Note], *, using: str) -> None:
    """Note it; users can be changed before our tables are there."""
    try:
        with transaction.atomic(using=using):
            AuditEntry.objects.using(using).note_all(notes)
    except Error:
        logger.exception("A change of permissions could not be noted in the audit trail.")

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
from django.db.models.signals import m2m_changed, post_init, post_save, pre_delete, pre_save

from ..audit_log import EntryDraft
from ..commits import after_commit
from . import changes
from .models import AuditEntry

logger = logging.getLogger("django_webhooks.auditing")

#: Fields of a user that give, or take, everything at once.
FLAGS = ("is_active", "is_staff", "is_superuser")
_UID = "django_webhooks.auditing"
#: The apps whose permissions these are.
LABELS = ("django_webhooks", "django_webhooks_inbox", "django_webhooks_auditing")
_CHANGED, _LOADED = "_webhooks_flags", "_webhooks_flags_loaded"


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
        m2m_changed.connect(_members_changed, sender=through, dispatch_uid=f"{_UID}.{through}")
    if any(hasattr(user, one) for one in FLAGS):
        post_init.connect(_user_made, sender=user, dispatch_uid=f"{_UID}.user_made")
        pre_save.connect(_before_user, sender=user, dispatch_uid=f"{_UID}.before_user")
        post_save.connect(_after_user, sender=user, dispatch_uid=f"{_UID}.after_user")
    for model in (user, Group):
        pre_delete.connect(_holder_deleted, sender=model, dispatch_uid=f"{_UID}.deleted")


def _codenames(permissions: Any, *, using: str) -> list[str]:
    """Return those of these apps, sorted."""
    rows = permissions.using(using).filter(content_type__app_label__in=LABELS).order_by("codename")
    return list(rows.values_list("codename", flat=True))


def _that_hold_ours(groups: Any, *, using: str) -> Any:
    """Return those of the groups that have permissions of these apps."""
    return groups.using(using).filter(permissions__content_type__app_label__in=LABELS).distinct()


def _members_changed(
    *,
    sender: Any,
    instance: Any,
    action: str = "",
    reverse: bool = False,
    model: Any = None,
    pk_set: Any = None,
    using: str | None = None,
    **kwargs: Any,
) -> None:
    """Note the permissions given to, or taken from, users and groups, from either side."""
    if model is None:
        # Sent by hand, by somebody who does not say what changed.
        return
    using = _database(instance, using)
    # The members are only known before they are cleared.
    done = {"post_add": "added", "post_remove": "removed", "pre_clear": "removed"}.get(action)
    if done is None:
        return
    if action == "pre_clear":
        pk_set = _linked(sender, instance, model, using=using)
    if not pk_set:
        return
    others = model._base_manager.using(using).filter(pk__in=pk_set)
    given, holders = (instance, others) if reverse else (others, [instance])
    names, what = _ours_of(given, using=using)
    if not names:
        return
    verb = f"{what}_{done}"
    notes = [
        EntryDraft(action=f"{_kind(one)}.{verb}", subject=one, detail={what: names})
        for one in holders
    ]
    _note(notes, using=using)


def _ours_of(given: Any, *, using: str) -> tuple[list[str], str]:
    """Return the names of those permissions, or groups, that concern this app, in one query."""
    rows = given
    if isinstance(given, models.Model):
        rows = type(given)._base_manager.filter(pk=given.pk)
    if rows.model._meta.label == "auth.Permission":
        return _codenames(rows, using=using), "permissions"
    return sorted(str(one) for one in _that_hold_ours(rows, using=using)), "groups"


def _kind(holder: models.Model) -> str:
    return "group" if holder._meta.label == "auth.Group" else "user"


def _linked(through: Any, instance: Any, model: Any, *, using: str) -> Collection[Any]:
    ends = {field.related_model: field for field in through._meta.fields if field.related_model}
    near, far = ends[instance._meta.concrete_model], ends[model]
    rows = through._base_manager.using(using).filter(**{near.attname: instance.pk})
    return list(rows.values_list(far.attname, flat=True))


def _user_made(*, instance: Any, **kwargs: Any) -> None:
    """Keep what the flags were when the object was made: mostly a save leaves them so."""
    instance.__dict__[_LOADED] = _flags(instance)


def _flags(instance: Any) -> dict[str, Any]:
    return {name: instance.__dict__[name] for name in FLAGS if name in instance.__dict__}


def _database(instance: Any, using: str | None) -> str:
    """Return the alias that a signal names, or that of the object where it was sent by hand."""
    return using or instance._state.db or router.db_for_write(type(instance), instance=instance)


def _before_user(*, sender: Any, instance: Any, using: str | None = None, **kwargs: Any) -> None:
    using = _database(instance, using)
    columns = kwargs.get("update_fields")
    wanted = [one for one in FLAGS if _is_column(sender, one) and (not columns or one in columns)]
    instance.__dict__[_CHANGED] = {}
    if not wanted or (columns is not None and not columns):
        return
    is_loaded = not instance._state.adding
    if is_loaded and instance.__dict__.get(_LOADED) == _flags(instance):
        return
    new: dict[str, Any] = {name: bool(getattr(instance, name)) for name in wanted}
    if instance._state.adding:
        # The defaults of a new user are nothing to tell.
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


def _after_user(*, instance: Any, using: str | None = None, **kwargs: Any) -> None:
    using = _database(instance, using)
    changed = instance.__dict__.pop(_CHANGED, None)
    instance.__dict__[_LOADED] = _flags(instance)
    if changed:
        _note([EntryDraft(action="user.changed", subject=instance, detail=changed)], using=using)


def _holder_deleted(*, instance: Any, using: str | None = None, **kwargs: Any) -> None:
    using = _database(instance, using)
    is_group = _kind(instance) == "group"
    own = getattr(instance, "permissions" if is_group else "user_permissions", None)
    held = [] if own is None else _codenames(own.all(), using=using)
    if not (held or getattr(instance, "is_superuser", False) or _has_groups(instance, using=using)):
        return
    detail = {"permissions": held}
    _note(
        [EntryDraft(action=f"{_kind(instance)}.deleted", subject=instance, detail=detail)],
        using=using,
    )


def _has_groups(instance: Any, *, using: str) -> bool:
    """Say whether a user is in groups that have permissions of these apps."""
    groups = getattr(instance, "groups", None)
    return groups is not None and bool(_that_hold_ours(groups.all(), using=using).exists())


def _note(notes: list[EntryDraft], *, using: str) -> None:
    if not notes:
        return
    ours = router.db_for_write(AuditEntry)
    if using == ours:
        _try_to_note(notes, using=ours)
    else:
        # Users live in another database: what is rolled back there was not done.
        later: Callable[[], None] = partial(_try_to_note, notes, using=ours)
        if not after_commit(lambda: later(), using=using):
            later()


def _try_to_note(notes: list[EntryDraft], *, using: str) -> None:
    """Note changes; users can be changed before our tables are there."""
    try:
        with transaction.atomic(using=using):
            changes.record(notes, using=using)
    except Error:
        logger.exception("A change of permissions could not be noted in the audit trail.")

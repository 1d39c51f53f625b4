"""Audited rows: changes of what people care about are noted in the trail, whoever makes them.

Saves and deletes are seen by signals, ``update()`` and ``bulk_create()`` by
:class:`AuditedQuerySet`.
Names of changed fields are noted, never values; what the system keeps for itself is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from django.db import models, transaction

from .audit_entry import AuditEntry, Note

_is_quiet: ContextVar[bool] = ContextVar("webhooks_quiet", default=False)
_CHANGED = "_webhooks_changed"

#: For each model, by its label: columns that the system keeps for itself.
_KEPT: dict[str, frozenset[str]] = {
    "django_webhooks.subscription": frozenset(
        {
            "created_at",
            "down_warnings",
            "flow_changed_at",
            "told_down_at",
            "told_stage",
            "unreadable_since",
        }
    ),
    "django_webhooks.endpoint": frozenset({"created_at", "url_index"}),
    "django_webhooks.signingkey": frozenset({"created_at", "created_by"}),
}
_STATUSES = {"active": "resumed", "paused": "paused", "disabled": "disabled"}


@contextmanager
def unnoted() -> Iterator[None]:
    """Let changes inside be noted by who makes them."""
    token = _is_quiet.set(True)
    try:
        yield
    finally:
        _is_quiet.reset(token)


class AuditedQuerySet:
    """Note what is changed or made in bulk. Mix it in before ``QuerySet``."""

    def update(self: Any, **kwargs: Any) -> int:
        """Change columns, and note those that people care about, for each row."""
        names = _of_interest(self.model, kwargs)
        if not names or _is_quiet.get():
            return int(super().update(**kwargs))  # type: ignore[misc]  # the queryset's
        with transaction.atomic(using=self.db):
            # Noted as it was before: afterwards the filter may not find it.
            keys = list(self.order_by().values_list("pk", flat=True))
            rows = list(self.model._base_manager.using(self.db).filter(pk__in=keys))
            count = int(super().update(**kwargs))  # type: ignore[misc]  # the queryset's
            note_all((one for row in rows for one in _changes(row, names, kwargs)), using=self.db)
        return count

    def bulk_create(self: Any, objs: Iterable[Any], *args: Any, **kwargs: Any) -> Any:
        """Make rows, and note each."""
        made = super().bulk_create(objs, *args, **kwargs)  # type: ignore[misc]  # the queryset's
        if not _is_quiet.get():
            note_all((_note(one, "added") for one in made), using=self.db)
        return made


def note_all(notes: Iterable[Note], *, using: str) -> None:
    """Note several things in the trail of a database."""
    AuditEntry.objects.using(using).note_all(notes)


def label_of(row: models.Model) -> str:
    """Return what a row is called in the trail: its own name, and whose it is."""
    subscription = getattr(row, "subscription", None)
    words = str(row) if row._meta.model_name != "signingkey" else "signing key"
    return f"{subscription}: {words}" if subscription is not None else str(row)


def before_save(
    *, sender: type[models.Model], instance: models.Model, using: str, **kwargs: Any
) -> None:
    """Remember which fields this save changes."""
    instance.__dict__[_CHANGED] = []
    if _is_quiet.get() or kwargs.get("raw") or instance._state.adding:
        return
    columns = kwargs.get("update_fields")
    names = [one.name for one in sender._meta.concrete_fields]
    wanted = _of_interest(sender, names if columns is None else columns)
    stored = sender._base_manager.using(using).filter(pk=instance.pk).first() if wanted else None
    if stored is None:
        return
    changed = [name for name in wanted if _value(stored, name) != _value(instance, name)]
    patterns = instance.__dict__.get("_event_types")
    if patterns is not None and sorted(patterns) != stored.event_types:  # type: ignore[attr-defined]  # a subscription's
        changed.append("event_types")
    instance.__dict__[_CHANGED] = changed


def after_save(*, instance: models.Model, created: bool, using: str, **kwargs: Any) -> None:
    """Note what was made or changed."""
    changed = instance.__dict__.pop(_CHANGED, [])
    if _is_quiet.get():
        return
    if created:
        note_all([_note(instance, "added")], using=using)
    elif changed:
        note_all(_changes(instance, changed, instance.__dict__), using=using)


def after_delete(
    *, sender: type[models.Model], instance: models.Model, using: str, **kwargs: Any
) -> None:
    """Note what was deleted; what goes with it is not told apart."""
    origin = kwargs.get("origin")
    model = getattr(origin, "model", None) or type(origin)
    if not _is_quiet.get() and (origin is None or issubclass(model, sender)):
        note_all([_note(instance, "deleted")], using=using)


def patterns_changed(*, instance: Any, using: str, **kwargs: Any) -> None:
    """Note that a subscription listens to something else, by its rows of patterns."""
    origin = kwargs.get("origin")
    model = getattr(origin, "model", None) or type(origin)
    if _is_quiet.get() or (origin is not None and not issubclass(model, type(instance))):
        return
    subscription = instance.subscription
    note_all([_note(subscription, "changed", fields=["event_types"])], using=using)


def _of_interest(model: type[models.Model], names: Iterable[str]) -> list[str]:
    kept = _KEPT[model._meta.label_lower]
    found = {model._meta.get_field(name).name for name in names}
    return sorted(found - kept)


def _value(row: models.Model, name: str) -> Any:
    field: Any = row._meta.get_field(name)
    return field.to_python(row.__dict__.get(field.attname))


def _changes(row: models.Model, names: Iterable[str], values: Mapping[str, Any]) -> list[Note]:
    """Return what is to be noted of a change: its verbs, and what is left."""
    left, notes = set(names), []
    for told, columns, verb_of, reason in _VERBS.get(row._meta.label_lower, ()):
        if told in left:
            detail = {"reason": values[reason]} if values.get(reason) else {}
            verb = verb_of(values.get(told))
            notes.append(_note(row, verb, by=_by(values, verb), **detail))
            left -= columns
    if left:
        notes.append(_note(row, "changed", fields=sorted(left)))
    return notes


def _by(values: Mapping[str, Any], verb: str) -> str:
    return str(values.get("pinned_by") or "") if verb == "pinned" else ""


def _note(row: models.Model, verb: str, *, by: str = "", **detail: Any) -> Note:
    owner = row.__dict__.get("subscription_id")
    if owner is not None:
        detail["subscription"] = str(owner)
    name = _NAMES.get(str(row._meta.model_name), str(row._meta.model_name))
    return Note(action=f"{name}.{verb}", subject=row, label=label_of(row), by=by, detail=detail)


_NAMES = {"signingkey": "signing_key"}
#: Columns by which something happens that has a name: all of it, the name, and the reason's column.
_VERBS: dict[str, list[tuple[str, set[str], Callable[[Any], str], str]]] = {
    "django_webhooks.subscription": [
        (
            "status",
            {"status", "status_reason"},
            lambda value: _STATUSES.get(str(value), "changed"),
            "status_reason",
        ),
    ],
    "django_webhooks.endpoint": [
        (
            "disabled_at",
            {"disabled_at", "disabled_reason"},
            lambda value: "disabled" if value else "enabled",
            "disabled_reason",
        ),
        (
            "pinned_at",
            {"pinned_at", "pin_reason", "pinned_by"},
            lambda value: "pinned" if value else "unpinned",
            "pin_reason",
        ),
    ],
}

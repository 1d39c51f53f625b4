"""Changes: what people care about is noted in the trail, whoever changes it.

This module is the recorder of :mod:`django_webhooks.audit_log`. Saves and deletes are seen by
signals, ``update()`` and ``bulk_create()`` by its ``AuditedQuerySet``.
Names of changed fields are noted, never values; what the system keeps for itself is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from django.db import models, transaction
from django.db.models.signals import post_delete, post_save, pre_save

from ..audit_log import EntryDraft, is_muted
from ..commits import after_commit
from ..models import Endpoint, SigningKey, Subscription
from ..models.event_type_pattern import EventTypePattern
from ..sending import database
from . import chain
from .models.audit_entry import build_entry, unguarded

_CHANGED = "_webhooks_changed"

#: For each model, by its label: columns that the system keeps for itself.
_KEPT: dict[str, frozenset[str]] = {
    "django_webhooks.subscription": frozenset(
        {
            "created_at",
            "notified_down_stage",
            "sending_changed_at",
            "notified_at",
            "notified_level",
            "is_notified_unreadable",
            "unreadable_since",
        }
    ),
    "django_webhooks.endpoint": frozenset({"created_at", "url_index"}),
    "django_webhooks.signingkey": frozenset({"created_at", "created_by"}),
}
_STATUSES = {"active": "resumed", "paused": "paused", "disabled": "disabled"}


def record(notes: Iterable[EntryDraft], *, using: str | None = None) -> None:
    """Write several notes into the trail of a database, in as many statements as one needs."""
    using = using or database.alias()
    made = [build_entry(one) for one in notes]
    if made:
        unguarded(using).bulk_create(made, batch_size=500)
        after_commit(lambda: chain.try_to_extend(using=using), using=using)


@contextmanager
def updating(rows: Any, values: Mapping[str, Any]) -> Iterator[None]:
    """Note which of the rows an ``update()`` inside changes, where people care about that."""
    names = _of_interest(rows.model, values)
    if not names:
        yield
        return
    with transaction.atomic(using=rows.db):
        # Noted as it was before: afterwards the filter may not find it.
        keys = list(rows.order_by().values_list("pk", flat=True))
        found = list(rows.model._base_manager.using(rows.db).filter(pk__in=keys))
        yield
        record((one for row in found for one in _changes(row, names, values)), using=rows.db)


def added(rows: Iterable[models.Model], *, using: str) -> None:
    """Note that rows were added in bulk."""
    record((_note(one, "added") for one in rows), using=using)


def connect() -> None:
    """Hear what is saved and deleted."""
    for row in (Subscription, Endpoint, SigningKey):
        pre_save.connect(before_save, sender=row)
        post_save.connect(after_save, sender=row)
        post_delete.connect(after_delete, sender=row)
    for signal in (post_save, post_delete):
        signal.connect(patterns_changed, sender=EventTypePattern)


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
    if is_muted() or kwargs.get("raw") or instance._state.adding:
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
    """Note a row that was made or changed."""
    changed = instance.__dict__.pop(_CHANGED, [])
    if is_muted():
        return
    if created:
        record([_note(instance, "added")], using=using)
    elif changed:
        record(_changes(instance, changed, instance.__dict__), using=using)


def after_delete(
    *, sender: type[models.Model], instance: models.Model, using: str, **kwargs: Any
) -> None:
    """Note a deletion; rows that go with it get no entry of their own."""
    origin = kwargs.get("origin")
    model = getattr(origin, "model", None) or type(origin)
    if not is_muted() and (origin is None or issubclass(model, sender)):
        record([_note(instance, "deleted")], using=using)


def patterns_changed(*, instance: Any, using: str, **kwargs: Any) -> None:
    """Note that a subscription listens to something else, by its rows of patterns."""
    origin = kwargs.get("origin")
    model = getattr(origin, "model", None) or type(origin)
    if is_muted() or (origin is not None and not issubclass(model, type(instance))):
        return
    subscription = instance.subscription
    record([_note(subscription, "changed", fields=["event_types"])], using=using)


def _of_interest(model: type[models.Model], names: Iterable[str]) -> list[str]:
    kept = _KEPT[model._meta.label_lower]
    found = {model._meta.get_field(name).name for name in names}
    return sorted(found - kept)


def _value(row: models.Model, name: str) -> Any:
    field: Any = row._meta.get_field(name)
    return field.to_python(row.__dict__.get(field.attname))


def _changes(
    row: models.Model, names: Iterable[str], values: Mapping[str, Any]
) -> list[EntryDraft]:
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
    return next((str(values[one]) for one in _BY.get(verb, ()) if values.get(one)), "")


def _note(row: models.Model, verb: str, *, by: str = "", **detail: Any) -> EntryDraft:
    owner = row.__dict__.get("subscription_id")
    if owner is not None:
        detail["subscription"] = str(owner)
    name = _NAMES.get(str(row._meta.model_name), str(row._meta.model_name))
    return EntryDraft(
        action=f"{name}.{verb}", subject=row, label=label_of(row), by=by, detail=detail
    )


_NAMES = {"signingkey": "signing_key"}
#: Columns that name who did what a verb says.
_BY = {
    "pinned": ["pinned_by"],
    "paused": ["status_by"],
    "disabled": ["disabled_by", "status_by"],
}
#: Columns by which something happens that has a name: all of it, the name, and the reason's column.
_VERBS: dict[str, list[tuple[str, set[str], Callable[[Any], str], str]]] = {
    "django_webhooks.subscription": [
        (
            "status",
            {"status", "status_reason", "status_by"},
            lambda value: _STATUSES.get(str(value), "changed"),
            "status_reason",
        ),
    ],
    "django_webhooks.endpoint": [
        (
            "disabled_at",
            {"disabled_at", "disabled_reason", "disabled_by"},
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

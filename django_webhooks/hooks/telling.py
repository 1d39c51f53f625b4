"""Telling: which hooks a change concerns, whether anybody hears it, and the draft of its event."""

from __future__ import annotations

import copy
import json
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from django.db import models, transaction
from django.utils import timezone

from .. import events
from ..models.owner import OwnerKey
from ..sending import listeners, outbox, payloads
from ..sending.fan_out import Draft, Recorded
from ..sending.one_trip import Written
from . import model_webhooks, values
from .model_webhooks import ModelWebhooks, concrete_of

#: The hook of each registered model, by its concrete class.
hooks: dict[type[models.Model], ModelWebhooks] = {}


def hooks_of(model: type[models.Model]) -> list[ModelWebhooks]:
    """Return the hooks whose model has a row that a save of this model writes."""
    concrete = concrete_of(model)
    return [hooks[one] for one in (concrete, *concrete._meta.all_parents) if one in hooks]


def key_of(hook: ModelWebhooks, instance: models.Model) -> Any:
    """Return the key of the hook's row: a child has its parent's in a link of its own."""
    return model_webhooks.key_of(hook.model, instance)


def is_heard(hook: ModelWebhooks, action: str) -> bool:
    """Say whether the action is told at all, and somebody may be listening; asks no database."""
    if action not in hook.actions:
        return False
    return outbox.is_capturing() or listeners.anybody(
        hook.event_type(action), using=outbox.database()
    )


def as_stored(
    instance: models.Model, *, using: str, computed: Collection[str] = ()
) -> models.Model:
    """Return the object, or a copy read again where the database computed some of its values.

    ``computed`` names such values of a save; since Django 6.0 they are deferred after it where the
    database cannot return them, and what is deferred would not be read again by itself.
    """
    state = vars(instance)
    if not (computed or any(map(values.is_expression, state.values()))):
        return instance
    stored = copy.copy(instance)
    names = [one.attname for one in instance._meta.concrete_fields]
    stored.refresh_from_db(
        using=using, fields=[name for name in names if name in state or name in computed]
    )
    return stored


def draft_of(
    hook: ModelWebhooks, instance: models.Model, action: str, *, changed: Sequence[str] = ()
) -> Draft | None:
    """Return the event of a change, or None where there is nothing to tell."""
    if action == "updated" and not changed:
        return None
    if not hook.condition(instance, action):
        return None
    data = hook.payload(instance)
    if action == "updated" and isinstance(data, dict):
        data = {**data, "changed": sorted(changed)}
    return Draft(
        event_type=hook.event_type(action),
        data=data,
        owner=hook.owner(instance),
        ordering_key=hook.ordering_key(instance),
    )


def emit(drafts: Sequence[Draft], *, using: str) -> Sequence[Recorded | Written]:
    """Record the events of changes made in that database.

    Another database than that of the events knows nothing of its transactions: the events wait
    until it has committed, and an empty list is returned.
    """
    database = outbox.database()
    if using == database or outbox.is_capturing():
        return events.record(drafts, using=database)
    # What is wrong with the data is told now, and what happens to it later is not.
    frozen = [
        # An owner that is deleted meanwhile has no key any more.
        replace(draft, data=_frozen(draft), owner=OwnerKey.of(draft.owner))
        for draft in drafts
    ]

    def emit_later() -> None:
        events.record(frozen, using=database)

    transaction.on_commit(emit_later, using=using)
    return []


def _frozen(draft: Draft) -> Any:
    body = payloads.serialise(draft.event_type, draft.data, recorded_at=timezone.now())
    return json.loads(body)["data"]

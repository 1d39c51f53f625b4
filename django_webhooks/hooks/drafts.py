"""Telling: which hooks a change concerns, whether anybody hears it, and the draft of its event."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.db import models, router
from django.utils import translation

from .. import events, process_state, times
from ..commits import after_commit
from ..models import Event
from ..models.owner import OwnerKey
from ..policies import ordering
from ..sending import recording, wire
from ..sending.database import alias
from ..sending.recording import Draft, hearing
from . import model_webhooks, serializers
from .model_webhooks import ModelWebhooks, concrete_of

#: The hook of each registered model, by its concrete class.
hooks: dict[type[models.Model], ModelWebhooks] = {}


# Migrations make classes of their own, which come and go.
@process_state.memo
@lru_cache(maxsize=1000)
def hooks_of(model: type[models.Model]) -> Sequence[ModelWebhooks]:
    """Return the hooks whose model has a row that a save of this model writes."""
    concrete = concrete_of(model)
    return tuple(hooks[one] for one in (concrete, *concrete._meta.all_parents) if one in hooks)


def key_of(hook: ModelWebhooks, instance: models.Model) -> Any:
    """Return the key of the hook's row: a child has its parent's in a link of its own."""
    return model_webhooks.key_of(hook.model, instance)


def database_of(instance: models.Model, using: str | None) -> str:
    """Return the alias that a signal names, or that of the object where it names none."""
    return using or instance._state.db or router.db_for_write(type(instance), instance=instance)


def heard_actions(hook: ModelWebhooks, *actions: str) -> set[str]:
    """Return those of the actions that are told at all, and that somebody may hear.

    One query at the most, and none where all of them were heard a moment ago.
    """
    told = {hook.event_type(one): one for one in actions if one in hook.actions}
    if recording.is_capturing() or not told:
        return set(told.values())
    return {told[one] for one in hearing.of_types(told, using=alias())}


def is_heard(hook: ModelWebhooks, action: str) -> bool:
    """Say whether the action is told at all, and somebody may hear it."""
    return bool(heard_actions(hook, action))


def draft_of(
    hook: ModelWebhooks, instance: models.Model, action: str, *, changed: Sequence[str] = ()
) -> Draft | None:
    """Return the event of a change, or None where there is nothing to tell."""
    if action == "updated" and not changed:
        return None
    if not hook.condition(instance, action):
        return None
    with in_one_language():
        data = serializers.plain(hook.payload(instance))
    if action == "updated" and isinstance(data, dict):
        data = {**data, "changed": sorted(changed)}
    return Draft(
        event_type=hook.event_type(action),
        data=data,
        owner=hook.owner(instance),
        ordering_key=_ordering_key(hook.ordering_key(instance)),
    )


def _ordering_key(key: Any) -> str:
    text = "" if key is None else str(key).replace("\x00", "")
    if len(text) <= ordering.LONGEST:
        return text
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def emit(drafts: Sequence[Draft], *, using: str) -> list[Event | None]:
    """Record the events of changes made in that database.

    Another database than that of the events knows nothing of its transactions: the events wait
    until it has committed, and an empty list is returned.
    """
    database = alias()
    if using == database or recording.is_capturing():
        with in_one_language():
            return events.emit_many(drafts, using=database)
    # What is wrong with the data is told now, and what happens to it later is not.
    frozen = [
        # An owner that is deleted meanwhile has no key any more.
        replace(draft, data=_frozen(draft), owner=OwnerKey.of(draft.owner))
        for draft in drafts
    ]

    def emit_later() -> None:
        events.emit_many(frozen, using=database)

    if not after_commit(emit_later, using=using):
        # Nobody says when a transaction that is ended by hand is committed. Better told of what is
        # rolled back than never.
        emit_later()
    return []


def in_one_language() -> AbstractContextManager[Any]:
    """Return a block in which texts are of the project's own language, whoever saves.

    The same object reads the same then, also where its texts are translated as late as possible.
    """
    if translation.get_language() == settings.LANGUAGE_CODE:
        # To activate what is active costs as much as to draft an event.
        return nullcontext()
    return translation.override(settings.LANGUAGE_CODE)


def _frozen(draft: Draft) -> Any:
    with in_one_language():
        body = wire.serialise(draft.event_type, draft.data, recorded_at=times.now())
    return json.loads(body)["data"]

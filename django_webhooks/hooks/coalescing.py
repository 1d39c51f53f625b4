"""Several changes of one object in one transaction, told as one.

    created + updated = created, with the last state
    updated + updated = updated, with all that changed
    created + deleted = nothing
    updated + deleted = deleted

The event is written at the first change and rewritten at the next, in the same transaction, so that
a crash loses nothing. The row tells what has been told so far: a savepoint that is rolled back
takes back what was written in it, and what was remembered in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import WeakValueDictionary

from django.db import connections, models

from ..commits import after_commit
from ..models import Event
from ..models.owner import OwnerKey
from ..sending import database, recording
from ..sending.recording import Draft
from . import drafts
from .model_webhooks import ACTIONS, ModelWebhooks

_Key = tuple[type[models.Model], Any]


class _Memory:
    """What this transaction knows of an object; the list of its commit hooks keeps it alive."""

    def __init__(self, *, is_new: bool) -> None:
        #: Whether this transaction created the object.
        self.is_new = is_new
        #: What was recorded; at most one of them is there at a time.
        self.events: list[Event] = []

    def __call__(self) -> None:
        """Do nothing on commit."""

    def standing(self, *, using: str) -> tuple[Event, Event] | tuple[None, None]:
        """Return the event that stands, and its row as it is now."""
        by_key = {event.pk: event for event in self.events}
        row = Event.objects.using(using).filter(pk__in=by_key).first() if by_key else None
        if row is None:
            return None, None
        event = by_key[row.pk]
        # It was taken back in a savepoint that was rolled back.
        event._state.adding = False
        return event, row


def may_apply(hook: ModelWebhooks, *, using: str) -> bool:
    """Say whether changes of the hook's objects are told as one here; asks no database."""
    return (
        hook.coalesce
        and using == database.alias()
        and connections[using].in_atomic_block
        and not recording.is_capturing()
    )


def heard(hook: ModelWebhooks, action: str, *, using: str) -> tuple[bool, bool]:
    """Return whether the action is heard, and whether it is told together with others.

    Others of its transaction matter where any action of the hook is heard. One query at the most.
    """
    is_one = may_apply(hook, using=using)
    found = drafts.heard_actions(hook, *(ACTIONS if is_one else (action,)))
    return action in found, is_one and bool(found)


def tell(
    hook: ModelWebhooks,
    instance: models.Model,
    action: str,
    *,
    using: str,
    changed: Sequence[str] = (),
    last: Draft | None = None,
) -> None:
    """Tell a change, together with what the transaction told of the object before.

    ``last`` is what is told of an object that is deleted.
    """
    memory = _memory_of(hook, instance, using=using)
    if memory is None or action == "created":
        draft = _draft_of(hook, instance, action, changed=changed, last=last)
        if draft is not None or action == "created":
            memory = remember(hook, instance, action, using=using)
            _record(memory, draft, using=using)
        return
    event, row = memory.standing(using=using)
    if memory.is_new and action == "updated":
        action = "created"
    if row is not None and row.type == hook.event_type("updated"):
        if action == "updated" and not changed and not isinstance(row.data, dict):
            # What changed before is not written there, and it stands.
            return
        changed = sorted({*changed, *_changed_before(row)})
    draft = None
    if not (memory.is_new and action == "deleted"):
        draft = _draft_of(hook, instance, action, changed=changed, last=last, row=row)
    if event is None or row is None:
        _record(memory, draft, using=using)
    elif draft is not None and _is_for_the_same(row, draft):
        with drafts.in_one_language():
            recording.rewrite(event, event_type=draft.event_type, data=draft.data, using=using)
    else:
        # Others may listen to this than to what was told before.
        recording.forget(event, using=using)
        _record(memory, draft, using=using)


def remembers(hook: ModelWebhooks, instance: models.Model, *, using: str) -> bool:
    """Say whether the transaction knows something of the object."""
    return _memory_of(hook, instance, using=using) is not None


def remember(
    hook: ModelWebhooks,
    instance: models.Model,
    action: str,
    *,
    using: str,
    event: Event | None = None,
) -> _Memory:
    """Remember a change until the transaction, or its savepoint, is over."""
    memory = _Memory(is_new=action == "created")
    if event is not None:
        memory.events.append(event)
    after_commit(memory, using=using)
    _memories(using)[_key(hook, instance)] = memory
    return memory


def _draft_of(
    hook: ModelWebhooks,
    instance: models.Model,
    action: str,
    *,
    changed: Sequence[str],
    last: Draft | None,
    row: Event | None = None,
) -> Draft | None:
    if action == "deleted":
        return last
    # Somebody listens to what stands already.
    stands = row is not None and row.type == hook.event_type(action)
    if not stands and not drafts.is_heard(hook, action):
        return None
    return drafts.draft_of(hook, instance, action, changed=changed)


def _record(memory: _Memory, draft: Draft | None, *, using: str) -> None:
    if draft is not None:
        recorded = drafts.emit([draft], using=using)
        memory.events.extend(event for event in recorded if event is not None)


def _changed_before(row: Event) -> list[str]:
    data = row.data
    return list(data.get("changed", ())) if isinstance(data, dict) else []


def _is_for_the_same(row: Event, draft: Draft) -> bool:
    return (
        row.type == draft.event_type
        and row.owner_key == OwnerKey.of(draft.owner)
        and row.ordering_key == (draft.ordering_key or "")
    )


def _memory_of(hook: ModelWebhooks, instance: models.Model, *, using: str) -> _Memory | None:
    memory = _memories(using).get(_key(hook, instance))
    if memory is None:
        return None
    # Commit hooks that run now belong to a transaction that is over.
    waiting = reversed(connections[using].run_on_commit)
    return memory if any(entry[1] is memory for entry in waiting) else None


def _key(hook: ModelWebhooks, instance: models.Model) -> _Key:
    return hook.model, drafts.key_of(hook, instance)


def _memories(using: str) -> WeakValueDictionary[_Key, _Memory]:
    connection: Any = connections[using]
    memories: WeakValueDictionary[_Key, _Memory] | None
    memories = getattr(connection, "_webhooks_memories", None)
    if memories is None:
        memories = connection._webhooks_memories = WeakValueDictionary()
    return memories

"""The registry: which models are told of, and the signals that tell."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.db import models
from django.db.models import signals

from .. import catalog
from . import drafts, receivers, relations
from .model_webhooks import ModelWebhooks, concrete_of

Hook = TypeVar("Hook", bound=type[ModelWebhooks])
_Connection = tuple[signals.ModelSignal, Callable[..., None], type[models.Model]]


def register(*registered: type[models.Model]) -> Callable[[Hook], Hook]:
    """Tell of the models by the class that this decorates."""

    def decorate(hook_class: Hook) -> Hook:
        for model in registered:
            _register(model, hook_class)
        return hook_class

    return decorate


def unregister(*registered: type[models.Model]) -> None:
    """Tell of the models no more, and take their event types out of the catalog."""
    for model in registered:
        hook = drafts.hooks.pop(concrete_of(model), None)
        if hook is None:
            continue
        drafts.hooks_of.cache_clear()
        for action in hook.actions:
            catalog.forget(hook.event_type(action))
        for through, _ in hook.m2m_fields():
            others = [one for one in relations.fields.pop(through) if one[0] is not hook]
            if others:
                relations.fields[through] = others
        needed = [one for other in drafts.hooks.values() for one in _connections(other)]
        for signal, receiver, sender in _connections(hook):
            if (signal, receiver, sender) not in needed:
                signal.disconnect(receiver, sender=sender)


def _register(model: type[models.Model], hook_class: type[ModelWebhooks]) -> None:
    if model._meta.abstract:
        raise ImproperlyConfigured(
            f"{model.__name__} is abstract; register the models that derive from it."
        )
    made_for: Any = model._meta.auto_created
    if made_for:
        raise ImproperlyConfigured(
            f"{model.__name__} is made by Django, which signals none of its rows; name the field "
            f"in m2m of a hook for {made_for.__name__}, or write a model for it."
        )
    if concrete_of(model) in drafts.hooks:
        raise ImproperlyConfigured(
            f"{model.__name__} is registered for webhooks twice; a proxy and its model are one."
        )
    hook = hook_class(model)
    hook.declare()
    drafts.hooks[concrete_of(model)] = hook
    drafts.hooks_of.cache_clear()
    for through, name in hook.m2m_fields():
        relations.fields.setdefault(through, []).append((hook, name))
    for signal, receiver, sender in _connections(hook):
        signal.connect(receiver, sender=sender)


def _connections(hook: ModelWebhooks) -> Iterator[_Connection]:
    """Yield what a hook listens to beside saves, one sender at a time.

    A receiver for all senders would cost every model its fast deletes. Deleting a child signals for
    the parent too. Saves are heard for all senders, see ``apps``.
    """
    concrete = concrete_of(hook.model)
    for sender in apps.get_models(include_auto_created=True):
        if concrete_of(sender) is concrete:
            yield signals.pre_delete, receivers.before_delete, sender
            yield signals.post_delete, receivers.after_delete, sender
    for through, _ in hook.m2m_fields():
        yield signals.m2m_changed, relations.after_m2m_change, through
    if relations.is_through(concrete):
        yield signals.m2m_changed, relations.after_rows_were_added, concrete

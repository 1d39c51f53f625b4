"""What a registered model tells: the class that a project derives from."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NoReturn

from django.core.exceptions import FieldDoesNotExist, ImproperlyConfigured
from django.db import models

from .. import catalog
from ..policies import ordering
from . import shapes, values

ACTIONS = ("created", "updated", "deleted")


def concrete_of(model: type[models.Model]) -> type[models.Model]:
    """Return the model whose table it is: that of a proxy is another's."""
    return model._meta.concrete_model or model


def key_of(model: type[models.Model], instance: models.Model) -> Any:
    """Return the key of the model's row: a child has its parent's in a link of its own."""
    link = instance._meta.get_ancestor_link(concrete_of(model))
    return instance.pk if link is None else getattr(instance, link.attname)


class ModelWebhooks:
    """Which changes of a model are told, to whom, and in what words.

    Derive from it, name ``fields`` or override :meth:`payload`, and register it for a model.
    """

    #: First part of the event types; the model's name in lower case by default.
    prefix: str = ""
    #: Which of created, updated and deleted are told.
    actions: Sequence[str] = ACTIONS
    #: Names of fields or attributes that the data holds; a foreign key as the key it points to.
    fields: Sequence[str] | None = None
    #: Instead of ``fields``: all concrete fields but these.
    exclude: Sequence[str] | None = None
    #: Fields whose changes are told as updated; all concrete fields where it is None.
    watch: Sequence[str] | None = None
    #: Many-to-many fields whose changes are told as updated.
    m2m: Sequence[str] = ()
    #: Tell several changes of one object in one transaction as one.
    coalesce: bool = False
    #: A callable that takes the object and returns its data, or something with ``.data``.
    serializer: Callable[..., Any] | None = None

    def __init__(self, model: type[models.Model]) -> None:
        self.model = model
        self.prefix = self.prefix or str(model._meta.model_name)
        self._check()
        self.payload_fields = self._payload_fields()
        self.watched = self._watched()
        self.watched_columns = [one.attname for one in self.watched.values()]

    def payload(self, instance: models.Model) -> Any:
        """Return the data that is told of an object."""
        if self.serializer is not None:
            # Not taken from the object, so that a plain function is not bound to it.
            made = inspect.getattr_static(type(self), "serializer")(instance)
            return made.data if hasattr(made, "data") else made
        return {
            name: self._value(instance, name, field) for name, field in self.payload_fields.items()
        }

    def condition(self, instance: models.Model, action: str) -> bool:
        """Say whether this change is told; ``action`` is created, updated or deleted."""
        return True

    def owner(self, instance: models.Model) -> models.Model | None:
        """Return whose event it is: only that owner's subscriptions hear it."""
        return None

    def ordering_key(self, instance: models.Model) -> str:
        """Return what its events share: they are sent in order where a subscription asks for it.

        By default that is the row.
        """
        key = f"{self.model._meta.label_lower}:{key_of(self.model, instance)}"
        if len(key) <= ordering.LONGEST:
            return key
        return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()

    def event_type(self, action: str) -> str:
        """Return the event type of an action."""
        return f"{self.prefix}.{action}"

    def declare(self) -> None:
        """Put the event types into the catalog."""
        name = str(self.model._meta.verbose_name)
        for action in self.actions:
            schema = example = None
            if self.payload_fields:
                has_changed = action == "updated"
                schema = shapes.schema_of(self.payload_fields, has_changed=has_changed)
                example = shapes.example_of(self.payload_fields, has_changed=has_changed)
            catalog.declare(
                self.event_type(action),
                description=f"{name.capitalize()} {action}.",
                schema=schema,
                example=example,
            )

    def m2m_fields(self) -> Iterator[tuple[type[models.Model], str]]:
        """Yield the table and the name of each many-to-many field that is told of."""
        for name in self.m2m:
            yield self._field(name).remote_field.through, name

    def _check(self) -> None:
        if self.fields is None and self.exclude is None and not self._has_own_payload():
            self._refuse(
                "must name fields or exclude, or override payload(): "
                "nothing is sent to strangers by default."
            )
        if self.fields is not None and self.exclude is not None:
            self._refuse("names both fields and exclude; choose one.")
        if unknown := set(self.actions) - set(ACTIONS):
            self._refuse(f"has {sorted(unknown)} in actions; use {list(ACTIONS)}.")
        for name in self.exclude or ():
            self._field(name)
        for name in self.watch or ():
            if not self._field(name).concrete or self._field(name).many_to_many:
                self._refuse(f"cannot watch {name!r}: put many-to-many fields into m2m.")
        for name in self.m2m:
            if not isinstance(self._field(name), models.ManyToManyField):
                self._refuse(f"has {name!r} in m2m, which is no many-to-many field.")

    def _has_own_payload(self) -> bool:
        return self.serializer is not None or type(self).payload is not ModelWebhooks.payload

    def _payload_fields(self) -> dict[str, models.Field[Any, Any] | None]:
        """Return the fields of the data by name; None for an attribute that is no field."""
        if self._has_own_payload():
            return {}
        names: Iterable[str] = self.fields or ()
        if self.exclude is not None:
            concrete = self.model._meta.concrete_fields
            names = [field.name for field in concrete if field.name not in self.exclude]
        if "changed" in names and "updated" in self.actions:
            self._refuse(
                "sends 'changed', which updates use for the names of the fields that changed; "
                "leave it out, or override payload()."
            )
        return {name: self._payload_field(name) for name in names}

    def _payload_field(self, name: str) -> models.Field[Any, Any] | None:
        try:
            field = self.model._meta.get_field(name)
        except FieldDoesNotExist:
            if hasattr(self.model, name):
                return None
            self._refuse_name(name)
        if not isinstance(field, models.Field) or field.name != name:
            self._refuse(f"cannot send {name!r} by itself; override payload().")
        return field

    def _watched(self) -> dict[str, models.Field[Any, Any]]:
        if self.watch is None:
            return {field.name: field for field in self.model._meta.concrete_fields}
        return {field.name: field for field in map(self._field, self.watch)}

    def _field(self, name: str) -> Any:
        try:
            return self.model._meta.get_field(name)
        except FieldDoesNotExist:
            self._refuse_name(name)

    def _refuse_name(self, name: str) -> NoReturn:
        self._refuse(f"names {name!r}, which {self.model.__name__} does not have.")

    def _refuse(self, why: str) -> NoReturn:
        raise ImproperlyConfigured(f"{type(self).__name__} {why}")

    def _value(
        self, instance: models.Model, name: str, field: models.Field[Any, Any] | None
    ) -> Any:
        if field is None:
            return getattr(instance, name)
        if isinstance(field, models.ManyToManyField):
            # Where it was just written: a router may read from a copy that lags behind.
            rows = getattr(instance, name).using(instance._state.db)
            return sorted(rows.values_list("pk", flat=True))
        return values.plain(field, getattr(instance, field.attname))

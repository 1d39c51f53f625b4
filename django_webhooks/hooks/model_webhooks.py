"""What a registered model tells: the class that a project derives from."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NoReturn

from django.core.exceptions import FieldDoesNotExist, ImproperlyConfigured
from django.db import models
from django.db.models.fields import related_descriptors

from .. import catalog
from ..policies import ordering
from . import schemas, serializers, values

ACTIONS = ("created", "updated", "deleted")


def concrete_of(model: type[models.Model]) -> type[models.Model]:
    """Return the model whose table it is: that of a proxy is another's."""
    return model._meta.concrete_model or model


def key_of(model: type[models.Model], instance: models.Model) -> Any:
    """Return the key of the model's row: a child has its parent's in a link of its own."""
    if type(instance) is model:
        return instance.pk
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
    #: Keep events that nobody listens to, so that a later subscriber can have them.
    keep: bool = False
    #: A callable that takes the object and returns its data, or something with ``.data``.
    serializer: Callable[..., Any] | None = None
    #: Tell also what is saved with ``raw=True``: by fixtures, and by packages that restore rows.
    raw: bool = False
    #: Read each row again after a save, where triggers of the database change what is saved.
    reread: bool = False

    def __init__(self, model: type[models.Model]) -> None:
        self.model = model
        self.prefix = self.prefix or str(model._meta.model_name)
        self._check()
        self.payload_fields = self._payload_fields()
        self.watched = self._watched()
        self.watched_columns = [one.attname for one in self.watched.values()]
        self.has_generated = any(getattr(one, "generated", False) for one in self.watched.values())
        #: Watched fields whose attribute is another package's, which may read other columns.
        self.replaced = {name for name, one in self.watched.items() if _is_replaced(model, one)}
        self.columns = [one.attname for one in model._meta.concrete_fields]

    def payload(self, instance: models.Model) -> Any:
        """Return the data that is told of an object: that of the serializer, or of ``fields``.

        The object has the values of its row, whatever else was in memory when it was saved.
        """
        if self.serializer is not None:
            # Not taken from the object, so that a plain function is not bound to it.
            serializer = inspect.getattr_static(type(self), "serializer")
            return serializers.data_of(serializer, instance, context=self.get_serializer_context)
        return {
            name: self._value(instance, name, field) for name, field in self.payload_fields.items()
        }

    def get_serializer_context(self) -> dict[str, Any]:
        """Return the context of a serializer class of REST framework, as its views do.

        Serializers that tell URLs need a ``request`` in it; None makes these relative.
        """
        return {}

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
            if self.payload_fields and not self._has_own_payload():
                has_changed = action == "updated"
                schema = schemas.schema_of(self.payload_fields, has_changed=has_changed)
                example = schemas.example_of(self.payload_fields, has_changed=has_changed)
            catalog.declare(
                self.event_type(action),
                description=f"{name.capitalize()} {action}.",
                schema=schema,
                example=example,
                keep=self.keep,
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
        names: Iterable[str] = self.fields or ()
        if self.exclude is not None:
            concrete = self.model._meta.concrete_fields
            names = [field.name for field in concrete if field.name not in self.exclude]
        if "changed" in names and "updated" in self.actions and not self._has_own_payload():
            self._refuse(
                "sends 'changed', which updates use for the names of the fields that changed; "
                "leave it out, or override payload()."
            )
        return {name: self._payload_field(name) for name in names}

    def _payload_field(self, name: str) -> models.Field[Any, Any] | None:
        try:
            field = self.model._meta.get_field(name)
        except FieldDoesNotExist:
            if not hasattr(self.model, name):
                self._refuse_name(name)
            if not _is_value(getattr(self.model, name)):
                self._refuse(f"cannot send {name!r}, which is no value; override payload().")
            return None
        if not isinstance(field, models.Field) or field.name != name or not _is_column(field):
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
            return values.sendable(getattr(instance, name))
        if isinstance(field, models.ManyToManyField):
            # Where it was just written: a router may read from a copy that lags behind.
            rows = getattr(instance, name).using(instance._state.db).order_by("pk")
            return [values.sendable(key) for key in rows.values_list("pk", flat=True)]
        return values.of_field(field, instance)


def _is_replaced(model: type[models.Model], field: models.Field[Any, Any]) -> bool:
    attribute = inspect.getattr_static(model, field.attname, None)
    return not isinstance(attribute, field.descriptor_class)


def _is_column(field: models.Field[Any, Any]) -> bool:
    """Say whether the field has a value of its own; relations by other columns have none."""
    if isinstance(field, models.ManyToManyField | models.CompositePrimaryKey):
        return True
    # Tags call themselves concrete, and are many to many.
    return bool(field.concrete and not field.many_to_many)


def _is_value(attribute: Any) -> bool:
    """Say whether an attribute of a model's class is one that its objects have a value for."""
    return not (
        callable(attribute)
        or isinstance(attribute, models.Manager)
        or type(attribute).__module__ == related_descriptors.__name__
    )

"""Owners: the tenant, of any model, that a subscription or an event belongs to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.apps import apps
from django.core.exceptions import ValidationError
from django.db import models
from django.utils.translation import gettext_lazy as _

#: Characters of an owner's key at the most.
LONGEST = 255

#: Called with each model that an object of is an owner.
met: list[Callable[[type[models.Model]], None]] = []


@dataclass(frozen=True, slots=True)
class OwnerKey:
    """An owner as it is stored: the label of its model and its primary key; both "" for none."""

    type: str = ""
    id: str = ""

    @classmethod
    def of(cls, owner: models.Model | OwnerKey | None) -> OwnerKey:
        """Return the key of an object, or of no owner.

        Raise ValueError for what cannot be one: an object that is not saved, or whose key is
        longer than :data:`LONGEST` characters.
        """
        if owner is None:
            return cls()
        if isinstance(owner, OwnerKey):
            return owner
        if not isinstance(owner, models.Model):
            raise ValueError(f"An owner is a saved object of a model, not {owner!r}.")
        if owner.pk is None:
            raise ValueError("Save the owner before an event or a subscription refers to it.")
        # A proxy is the same owner.
        model = owner._meta.concrete_model or type(owner)
        for meet in met:
            meet(model)
        key = _text_of(owner)
        if len(key) > LONGEST or "\x00" in key:
            raise ValueError(
                f"The key of this {model.__name__} cannot be an owner's: use one of at most "
                f"{LONGEST} characters without NUL, or another model as owner."
            )
        return cls(model._meta.label_lower, key)


def _text_of(owner: models.Model) -> str:
    """Return the primary key as text: the same for each form in which it may be in memory."""
    key, field = owner.pk, owner._meta.pk
    if isinstance(field, models.CompositePrimaryKey):
        return str(field.value_to_string(owner))
    if isinstance(key, int):
        return str(key)
    try:
        return str(field.to_python(key))
    except (ValidationError, TypeError, ValueError):
        return str(key)


class Owned(models.Model):
    """A row that may belong to an owner."""

    #: Django's names of apps and models have up to 100 characters each.
    owner_type = models.CharField(_("owner's model"), max_length=201, blank=True, editable=False)
    owner_id = models.CharField(_("owner's key"), max_length=LONGEST, blank=True, editable=False)

    class Meta:
        abstract = True

    @property
    def owner_key(self) -> OwnerKey:
        """The owner as it is stored."""
        return OwnerKey(self.owner_type, self.owner_id)

    @property
    def owner(self) -> models.Model | None:
        """The owner itself, or None where there is none or it no longer exists."""
        try:
            manager: models.Manager[Any] = apps.get_model(self.owner_type)._base_manager
        except (LookupError, ValueError):
            # No owner, or the project dropped its model.
            return None
        for meet in met:
            meet(manager.model)
        key: Any = self.owner_id
        if isinstance(manager.model._meta.pk, models.CompositePrimaryKey):
            key = manager.model._meta.pk.to_python(key)
        owner: models.Model | None = manager.filter(pk=key).first()
        return owner

    @owner.setter
    def owner(self, owner: models.Model | None) -> None:
        key = OwnerKey.of(owner)
        self.owner_type, self.owner_id = key.type, key.id

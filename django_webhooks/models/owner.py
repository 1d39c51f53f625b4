"""Owners: the tenant, of any model, that a subscription or an event belongs to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.apps import apps
from django.db import models
from django.utils.translation import gettext_lazy as _


@dataclass(frozen=True, slots=True)
class OwnerKey:
    """An owner as it is stored: the label of its model and its primary key; both "" for none."""

    type: str = ""
    id: str = ""

    @classmethod
    def of(cls, owner: models.Model | OwnerKey | None) -> OwnerKey:
        """Return the key of an object, or of no owner. Raise ValueError for an unsaved object."""
        if owner is None:
            return cls()
        if isinstance(owner, OwnerKey):
            return owner
        if owner.pk is None:
            raise ValueError("Save the owner before an event or a subscription refers to it.")
        # A proxy is the same owner.
        model = owner._meta.concrete_model or type(owner)
        return cls(model._meta.label_lower, str(owner.pk))


class Owned(models.Model):
    """A row that may belong to an owner."""

    owner_type = models.CharField(_("owner's model"), max_length=100, blank=True, editable=False)
    owner_id = models.CharField(_("owner's key"), max_length=64, blank=True, editable=False)

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
        owner: models.Model | None = manager.filter(pk=self.owner_id).first()
        return owner

    @owner.setter
    def owner(self, owner: models.Model | None) -> None:
        key = OwnerKey.of(owner)
        self.owner_type, self.owner_id = key.type, key.id

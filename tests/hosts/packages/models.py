"""Models of popular packages."""

from __future__ import annotations

import reversion
from django.db import models
from django.db.models import F
from django.db.models.signals import post_save, pre_save
from polymorphic.models import PolymorphicModel
from safedelete.models import SOFT_DELETE_CASCADE, SafeDeleteModel
from simple_history.models import HistoricalRecords
from taggit.managers import TaggableManager
from treebeard.mp_tree import MP_Node


class StockRecord(models.Model):
    """Sends signals as django-oscar's does (oscar/apps/partner/abstract_models.py)."""

    sku = models.CharField(max_length=20)
    num_allocated = models.IntegerField(null=True)

    def allocate(self, quantity: int) -> None:
        """Take some of what is in stock for an order."""
        signal = {"sender": type(self), "instance": self, "created": False, "raw": False}
        signal["using"] = self._state.db
        pre_save.send(**signal)
        type(self).objects.filter(pk=self.pk).update(
            num_allocated=models.functions.Coalesce(F("num_allocated"), 0) + quantity
        )
        self.refresh_from_db(fields=["num_allocated"])
        post_save.send(**signal)


class News(models.Model):
    """Is translated by django-modeltranslation."""

    title = models.CharField(max_length=50)
    count = models.IntegerField(default=0)


class Poll(models.Model):
    """Keeps its history by django-simple-history."""

    question = models.CharField(max_length=50)
    history = HistoricalRecords()


class Animal(PolymorphicModel):
    """Is of several kinds, by django-polymorphic."""

    name = models.CharField(max_length=50)


class Dog(Animal):
    """One of the kinds."""

    barks = models.BooleanField(default=True)


class Author(SafeDeleteModel):
    """Is not deleted, but hidden, by django-safedelete."""

    _safedelete_policy = SOFT_DELETE_CASCADE
    name = models.CharField(max_length=50)


class Book(SafeDeleteModel):
    """Goes with its author."""

    author = models.ForeignKey(Author, on_delete=models.CASCADE)


class Category(MP_Node):
    """Is part of a tree, by django-treebeard."""

    name = models.CharField(max_length=50)


@reversion.register()
class Page(models.Model):
    """Has revisions, by django-reversion."""

    name = models.CharField(max_length=50)


class Photo(models.Model):
    """Has tags, by django-taggit."""

    name = models.CharField(max_length=50)
    tags = TaggableManager()

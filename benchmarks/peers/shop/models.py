"""A model whose changes are sent, and one that is the same and is not."""

from __future__ import annotations

from django.db import models


class Order(models.Model):
    """Something that is sent when it is saved, of 1 KiB."""

    text = models.TextField()

    class Meta:
        app_label = "shop"


class Draft(models.Model):
    """The same, of which nobody hears."""

    text = models.TextField()

    class Meta:
        app_label = "shop"

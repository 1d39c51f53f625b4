"""What the site commits, counted from outside."""

from __future__ import annotations

from django.db import models


class Thing(models.Model):
    """A row whose commit must be told."""

    name = models.CharField(max_length=50)

    class Meta:
        app_label = "site"

"""What the site commits, counted from outside."""

from __future__ import annotations

from django.db import models


class Thing(models.Model):
    """A row whose commit must be told."""

    name = models.CharField(max_length=50)

    class Meta:
        app_label = "site"


class Effect(models.Model):
    """What a handler did with a message; nothing but the inbox keeps it from doing it twice."""

    message_id = models.CharField(max_length=200)
    data = models.JSONField()

    class Meta:
        app_label = "site"

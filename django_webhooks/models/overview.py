"""The overview: a page of the admin, which has a permission of its own and no table."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class Overview(models.Model):
    """Nothing is stored: the admin lists models, and this is what it lists."""

    class Meta:
        managed = False
        default_permissions = ("view",)
        verbose_name = _("overview")
        verbose_name_plural = _("overview")

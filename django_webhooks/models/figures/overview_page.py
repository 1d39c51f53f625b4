"""The overview: a page of the admin, which has a permission of its own and no table of its own."""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _

from .rollup import Rollup


class OverviewPage(Rollup):
    """A model for the admin, which lists models, in the place of roll-ups."""

    class Meta:
        proxy = True
        default_permissions = ("view",)
        verbose_name = _("overview")
        verbose_name_plural = _("overview")

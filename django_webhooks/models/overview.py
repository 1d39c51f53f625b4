"""The overview: a page of the admin, which has a permission of its own and no table of its own."""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _

from .tally import Tally


class Overview(Tally):
    """What the admin lists in the place of tallies: it lists models, and this is one."""

    class Meta:
        proxy = True
        default_permissions = ("view",)
        verbose_name = _("overview")
        verbose_name_plural = _("overview")

"""Network lists: from where a sender says that its webhooks come, as it publishes them."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from ... import times
from ...fields import UTCDateTimeField


class NetworkList(models.Model):
    """The networks of one sender, loaded by ``webhooks_networks``."""

    name = models.SlugField(_("name"), max_length=50, primary_key=True)
    networks = models.JSONField(_("networks"), default=list)
    origin = models.CharField(_("loaded from"), max_length=500)
    loaded_at = UTCDateTimeField(_("loaded"), default=times.now)

    class Meta:
        db_table = "django_webhooks_inbox_network_list"
        verbose_name = _("network list")
        verbose_name_plural = _("network lists")
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

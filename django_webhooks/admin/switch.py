"""Switches: when the active endpoint changed, and why."""

from __future__ import annotations

from django.contrib import admin
from django.utils.translation import gettext_lazy as _

from ..models import Switch
from .mixins import RecordAdmin


@admin.register(Switch)
class SwitchAdmin(RecordAdmin):
    """Look at switches."""

    list_display = ["created_at", "subscription", "cause", "from_host", "to_host", "reason", "by"]
    list_filter = ["cause"]
    list_select_related = ["subscription"]
    search_fields = ["subscription__name", "from_host", "to_host"]
    search_help_text = _("Name of a subscription, or host.")
    fields = readonly_fields = (
        "created_at",
        "subscription",
        "cause",
        "from_host",
        "to_host",
        "reason",
        "by",
    )

"""Switches: when the active endpoint changed, and why."""

from __future__ import annotations

from django.contrib import admin
from django.utils.translation import gettext_lazy as _

from ..models import Switch
from . import html
from .mixins import MaskedHosts, RecordAdmin
from .times import moment_column


@admin.register(Switch)
class SwitchAdmin(MaskedHosts, RecordAdmin):
    """Look at switches."""

    empty_list = _("No traffic moved from one endpoint to another yet.")

    masks = {"from_host": "masked_from", "to_host": "masked_to"}

    owner_path = "subscription__"
    sortable_by = ["when"]
    list_display = ["when", "subscription", "cause", "from_host", "to_host", "why", "by"]
    list_filter = ["cause"]
    list_select_related = ["subscription"]
    search_fields = ["subscription__name", "from_host", "to_host"]
    search_help_text = _("Name of a subscription, or host.")
    fields = readonly_fields = (
        "when",
        "subscription",
        "cause",
        "from_host",
        "to_host",
        "meaning",
        "note",
        "by",
    )

    when = moment_column(_("when"), "created_at", ordering="created_at")

    @admin.display(description=_("reason"))
    def why(self, switch: Switch) -> str:
        """The code, and what the person said who did it."""
        return ": ".join(filter(None, [switch.reason, switch.note]))

    @admin.display(description=_("reason"))
    def meaning(self, switch: Switch) -> str:
        """The code, and what it means."""
        return html.reason(switch.reason)

    @admin.display(description=_("from"))
    def masked_from(self, switch: Switch) -> str:
        """Enough of the host to tell it from others."""
        return html.masked(switch.from_host) if switch.from_host else "-"

    @admin.display(description=_("to"))
    def masked_to(self, switch: Switch) -> str:
        """Enough of the host to tell it from others."""
        return html.masked(switch.to_host) if switch.to_host else "-"

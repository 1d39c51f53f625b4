"""The form of a bulk replay: which deliveries, where to, how fast and why."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from .. import times
from .times import MomentInput


class ReplayForm(forms.Form):
    """Which of the selected deliveries are replayed, where to, how fast and why."""

    token = forms.UUIDField(widget=forms.HiddenInput)
    status = forms.ChoiceField(
        label=_("Which"),
        required=False,
        choices=[
            ("given_up", _("Those that were given up")),
            ("", _("All that are over, those that arrived included")),
            ("succeeded", _("Those that arrived")),
            ("cancelled", _("Those that were cancelled")),
        ],
    )
    finished_since = times.UTCDateTimeFormField(
        label=_("Finished since"),
        required=False,
        widget=MomentInput,
        help_text=_("When they arrived, were given up or were cancelled."),
    )
    finished_until = times.UTCDateTimeFormField(
        label=_("Finished before"), required=False, widget=MomentInput
    )
    since = times.UTCDateTimeFormField(
        label=_("Recorded since"), required=False, widget=MomentInput
    )
    until = times.UTCDateTimeFormField(
        label=_("Recorded before"), required=False, widget=MomentInput
    )
    endpoint = forms.ChoiceField(
        label=_("Send to"),
        required=False,
        help_text=_("A single endpoint can be chosen where all belong to one subscription."),
    )
    gives_new_message_ids = forms.BooleanField(
        label=_("New message ids"),
        required=False,
        help_text=_(
            "For a receiver that lost what it had accepted. With the same ids it drops what it "
            "has processed."
        ),
    )
    rate = forms.IntegerField(
        label=_("Deliveries a second"), min_value=1, max_value=100_000, help_text=_("At the most.")
    )
    reason = forms.CharField(
        label=_("Reason"),
        max_length=200,
        widget=forms.TextInput(attrs={"class": "vTextField"}),
        help_text=_("For those who come after you; it is kept with the audit trail."),
    )

    def __init__(self, *args: Any, endpoints: Any = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field: Any = self.fields["endpoint"]
        field.choices = [("", _("The active endpoint")), *endpoints]

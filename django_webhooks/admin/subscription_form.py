"""The form of a subscription: its event types, its owner, and its first signing key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from .. import catalog, signing
from ..models import Subscription
from ..models.owner import OwnerKey
from ..validators import validate_secret
from . import event_types


class SubscriptionForm(forms.ModelForm):  # type: ignore[type-arg]  # generic for type checkers alone
    """A subscription with its event types, its owner, and its first signing key."""

    #: Whose subscriptions the user may make; None for anybody's.
    owners: list[OwnerKey] | None = None

    declared_types = forms.MultipleChoiceField(
        label=_("Event types"),
        required=False,
        choices=event_types.declared,
        widget=event_types.SearchedBoxes,
    )
    event_types = forms.CharField(
        label=_("Patterns"),
        required=False,
        widget=forms.Textarea(attrs={"rows": 3, "cols": 60}),
        help_text=_("One on each line: order.* for all that begins so, * for everything."),
    )
    owner = forms.CharField(
        label=_("Owner"),
        required=False,
        max_length=165,
        help_text=_("The model and the key of a tenant, such as shop.shop:7; empty for none."),
    )
    signing_secret = forms.CharField(
        label=_("Signing secret"),
        max_length=120,
        initial=signing.generate_secret,
        validators=[validate_secret],
        widget=forms.TextInput(attrs={"class": "vTextField", "autocomplete": "off"}),
        help_text=_("The receiver needs it: whsec_ and 24 to 64 random bytes in base64, or whsk_."),
    )

    class Meta:
        model = Subscription
        exclude: Sequence[str] = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        names = {one.name for one in catalog.all()}
        patterns = self.instance.event_types
        self.initial.setdefault("declared_types", [one for one in patterns if one in names])
        self.initial.setdefault("event_types", "\n".join(p for p in patterns if p not in names))
        if not self.instance._state.adding:
            # The secret is shown once; afterwards keys are rotated.
            self.fields.pop("signing_secret", None)
        self._offer_owners()

    def _offer_owners(self) -> None:
        if "owner" not in self.fields:
            return
        key = self.instance.owner_key
        self.initial.setdefault("owner", f"{key.type}:{key.id}" if key.type else "")
        if self.owners is None:
            return
        # A user limited to some owners makes subscriptions for these alone.
        choices = [(f"{one.type}:{one.id}", f"{one.type} {one.id}") for one in self.owners]
        self.fields["owner"] = forms.ChoiceField(label=_("Owner"), choices=choices)
        self.fields.pop("is_global", None)

    def clean_owner(self) -> OwnerKey:
        """Return the owner, who exists."""
        entered = self.cleaned_data["owner"]
        if not entered:
            return OwnerKey()
        kind, _colon, key = entered.partition(":")
        candidate = Subscription(owner_type=kind.lower(), owner_id=key)
        try:
            owner = candidate.owner
        except (ValueError, ValidationError):
            owner = None
        if owner is None:
            raise ValidationError(
                _("There is no %(owner)s; write app.model:key, such as shop.shop:7."),
                code="unknown",
                params={"owner": entered},
            )
        return OwnerKey.of(owner)

    def clean_event_types(self) -> list[str]:
        """Return the patterns, each once."""
        patterns = list(dict.fromkeys(self.cleaned_data["event_types"].split()))
        known = [] if self.instance._state.adding else self.instance.event_types
        for pattern in patterns:
            event_types.check(pattern, known=known)
        return patterns

    def clean(self) -> Any:
        """Put boxes and patterns together, and the owner where the constraints look for it."""
        cleaned = super().clean()
        if "event_types" in self.cleaned_data:
            chosen = self.cleaned_data.get("declared_types", [])
            together = dict.fromkeys([*chosen, *self.cleaned_data["event_types"]])
            if not together:
                self.add_error("declared_types", _("Choose at least one event type."))
            self.cleaned_data["event_types"] = list(together)
        owner = self.cleaned_data.get("owner")
        if isinstance(owner, OwnerKey):
            self.instance.owner_type, self.instance.owner_id = owner.type, owner.id
        return cleaned

    def save(self, commit: bool = True) -> Subscription:
        """Save the subscription, and its patterns with it."""
        self.instance.event_types = self.cleaned_data["event_types"]
        if "signing_secret" in self.cleaned_data:
            self.instance.signing_secret = self.cleaned_data["signing_secret"]
        saved: Subscription = super().save(commit)
        return saved

"""Subscriptions: who listens to which event types."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from ..models import Subscription
from ..validators import validate_pattern
from .endpoint import EndpointInline


class SubscriptionForm(forms.ModelForm):  # type: ignore[type-arg]  # generic for type checkers alone
    """A subscription with its event types as lines of text."""

    event_types = forms.CharField(
        label=_("Event types"),
        widget=forms.Textarea(attrs={"rows": 4, "cols": 60}),
        help_text=_("One on each line: a name such as order.paid, order.* or *."),
    )

    class Meta:
        model = Subscription
        exclude: Sequence[str] = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial.setdefault("event_types", "\n".join(self.instance.event_types))
        if "signing_secret" in self.fields:
            # A second, hidden copy of the secret helps nobody.
            self.fields["signing_secret"].show_hidden_initial = False

    def clean_event_types(self) -> list[str]:
        """Return the patterns, each once."""
        patterns = list(dict.fromkeys(self.cleaned_data["event_types"].split()))
        for pattern in patterns:
            validate_pattern(pattern)
        return patterns

    def save(self, commit: bool = True) -> Subscription:
        """Save the subscription, and its patterns with it."""
        self.instance.event_types = self.cleaned_data["event_types"]
        saved: Subscription = super().save(commit)
        return saved


@admin.register(Subscription)
class SubscriptionAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # generic for type checkers alone
    """Edit subscriptions, pause and resume them."""

    form = SubscriptionForm
    actions = ["pause", "resume"]
    inlines = [EndpointInline]
    list_display = ["name", "status", "listens_to", "primary_host", "owner_name", "is_global"]
    list_filter = ["status", "is_global"]
    list_per_page = 50
    search_fields = ["name", "owner_id__exact"]
    show_full_result_count = False
    readonly_fields = [
        "status",
        "status_reason",
        "flow_changed_at",
        "owner_name",
        "masked_secret",
        "created_at",
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Subscription]:
        """Read the patterns and endpoints of all rows at once."""
        return super().get_queryset(request).prefetch_related("patterns", "endpoints")

    def get_fieldsets(self, request: HttpRequest, obj: Subscription | None = None) -> Any:
        """Show the signing secret while it is new, and enough to tell it apart afterwards."""
        secret = "masked_secret" if obj else "signing_secret"
        state = ["status", "status_reason", "flow_changed_at", "created_at"]
        policy = ["timeout", "retry_attempts", "retry_base", "retry_cap", "client_errors_final"]
        audience = ["owner_name", "is_global"] if obj else ["is_global"]
        return [
            (None, {"fields": ["name", "description", "event_types", *audience, secret]}),
            (_("Delivery"), {"fields": policy}),
            *([(_("Status"), {"fields": state})] if obj else []),
        ]

    @admin.display(description=_("event types"))
    def listens_to(self, subscription: Subscription) -> str:
        """Its patterns."""
        return ", ".join(subscription.event_types)

    @admin.display(description=_("primary endpoint"), empty_value="-")
    def primary_host(self, subscription: Subscription) -> str:
        """The host of the first endpoint; its path may be a secret."""
        first = min(subscription.endpoints.all(), key=lambda one: one.position, default=None)
        return first.host if first else ""

    @admin.display(description=_("owner"), empty_value="-")
    def owner_name(self, subscription: Subscription) -> str:
        """Whose it is."""
        return f"{subscription.owner_type} {subscription.owner_id}".strip()

    @admin.display(description=_("signing secret"))
    def masked_secret(self, subscription: Subscription) -> str:
        """The last characters of the secret."""
        return f"whsec_…{subscription.signing_secret[-4:]}"

    @admin.action(description=_("Pause selected subscriptions"), permissions=["change"])
    def pause(self, request: HttpRequest, queryset: QuerySet[Subscription]) -> None:
        """Stop sending; what happens meanwhile waits."""
        found = list(queryset.filter(status=Subscription.Status.ACTIVE))
        for subscription in found:
            subscription.pause(f"by {request.user}")
        message = ngettext(
            "%(count)d subscription paused.", "%(count)d subscriptions paused.", len(found)
        )
        self.message_user(request, message % {"count": len(found)}, _level(found))

    @admin.action(description=_("Resume selected subscriptions"), permissions=["change"])
    def resume(self, request: HttpRequest, queryset: QuerySet[Subscription]) -> None:
        """Send again, what waited first."""
        found = list(queryset.exclude(status=Subscription.Status.ACTIVE))
        for subscription in found:
            subscription.resume()
        message = ngettext(
            "%(count)d subscription resumed.", "%(count)d subscriptions resumed.", len(found)
        )
        self.message_user(request, message % {"count": len(found)}, _level(found))


def _level(changed: Sequence[Subscription]) -> int:
    return messages.SUCCESS if changed else messages.WARNING

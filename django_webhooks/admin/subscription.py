"""Subscriptions: who listens to which event types."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import Prefetch, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from .. import signing
from ..fields import sealed_fields
from ..models import Endpoint, SigningKey, Subscription, Switch
from ..validators import validate_pattern, validate_secret
from . import badges, parts, rotation
from .doors import EndpointInline
from .mixins import MaskedHosts


class SubscriptionForm(forms.ModelForm):  # type: ignore[type-arg]  # generic for type checkers alone
    """A subscription with its event types as lines of text."""

    event_types = forms.CharField(
        label=_("Event types"),
        widget=forms.Textarea(attrs={"rows": 4, "cols": 60}),
        help_text=_("One on each line: a name such as order.paid, order.* or *."),
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
        self.initial.setdefault("event_types", "\n".join(self.instance.event_types))
        if not self.instance._state.adding:
            # It is shown once; afterwards keys are rotated.
            del self.fields["signing_secret"]

    def clean_event_types(self) -> list[str]:
        """Return the patterns, each once."""
        patterns = list(dict.fromkeys(self.cleaned_data["event_types"].split()))
        for pattern in patterns:
            validate_pattern(pattern)
        return patterns

    def save(self, commit: bool = True) -> Subscription:
        """Save the subscription, and its patterns with it."""
        self.instance.event_types = self.cleaned_data["event_types"]
        if "signing_secret" in self.cleaned_data:
            self.instance.signing_secret = self.cleaned_data["signing_secret"]
        saved: Subscription = super().save(commit)
        return saved


@admin.register(Subscription)
class SubscriptionAdmin(MaskedHosts, admin.ModelAdmin):  # type: ignore[type-arg]  # generic for type checkers alone
    """Edit subscriptions, pause and resume them."""

    masks = {"active_host": "masked_active", "recent_switches": "masked_switches"}
    form = SubscriptionForm
    actions = ["pause", "resume", "fail_back", "rotate_keys"]
    inlines = [EndpointInline]
    list_display = [
        "name",
        "status",
        "listens_to",
        "active_host",
        "health",
        "owner_name",
        "is_global",
    ]
    list_filter = ["status", "is_global"]
    list_per_page = 50
    search_fields = ["name", "owner_id__exact"]
    show_full_result_count = False
    readonly_fields = [
        "status",
        "status_reason",
        "flow_changed_at",
        "owner_name",
        "unreadable_since",
        "keys",
        "recent_switches",
        "created_at",
    ]

    class Media:
        css = badges.MEDIA

    def get_queryset(self, request: HttpRequest) -> QuerySet[Subscription]:
        """Read the patterns and endpoints of all rows at once."""
        endpoints = Prefetch("endpoints", queryset=Endpoint.objects.select_related("health"))
        return super().get_queryset(request).prefetch_related("patterns", endpoints)

    def render_change_form(
        self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any
    ) -> Any:
        """Warn of what cannot be decrypted."""
        subscription = kwargs.get("obj")
        if subscription is not None and request.method == "GET":
            rows = [*subscription.endpoints.all(), *subscription.signing_keys.all()]
            whys = {why for row in rows for why in sealed_fields(row).values()}
            for why in sorted(whys):
                self.message_user(
                    request,
                    _("Something here cannot be read, and its deliveries wait. %(why)s")
                    % {"why": why},
                    messages.WARNING,
                )
        return super().render_change_form(request, context, *args, **kwargs)

    def get_fieldsets(self, request: HttpRequest, obj: Subscription | None = None) -> Any:
        """Show the signing secret while it is new, and enough to tell it apart afterwards."""
        signatures = ["keys" if obj else "signing_secret", "signature_style"]
        state = ["status", "status_reason", "unreadable_since", "flow_changed_at", "created_at"]
        policy = ["timeout", "retry_attempts", "retry_base", "retry_cap", "client_errors_final"]
        thresholds = [
            ("health_fall", "health_rise"),
            ("health_window", "health_window_attempts", "health_window_share"),
            ("health_hold", "health_hold_cap"),
            "disable_after",
        ]
        failover = [
            "failover",
            "failback",
            *(self._masked(request, ["recent_switches"]) if obj else []),
        ]
        audience = ["owner_name", "is_global"] if obj else ["is_global"]
        return [
            (None, {"fields": ["name", "description", "event_types", *audience]}),
            (_("Signatures"), {"fields": signatures}),
            (_("Delivery"), {"fields": policy}),
            (_("Failover"), {"fields": failover}),
            (
                _("Thresholds of health"),
                {"fields": thresholds, "classes": ["collapse"]},
            ),
            *([(_("Status"), {"fields": state})] if obj else []),
        ]

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Let what belongs to a subscription go with it; by itself nobody deletes it."""
        objects, counts, missing, protected = super().get_deleted_objects(objs, request)
        belongs = {model._meta.verbose_name for model in (Endpoint, SigningKey, Switch)}
        return objects, counts, missing - belongs, protected

    @admin.display(description=_("event types"))
    def listens_to(self, subscription: Subscription) -> str:
        """Its patterns."""
        return ", ".join(subscription.event_types)

    @admin.display(description=_("active endpoint"), empty_value="-")
    def active_host(self, subscription: Subscription) -> str:
        """The host that deliveries go to; its path may be a secret."""
        active = (one for one in _doors(subscription) if one.health.is_active)
        return next((one.label for one in active), "")

    @admin.display(description=_("active endpoint"), empty_value="-")
    def masked_active(self, subscription: Subscription) -> str:
        """Enough of the host to tell it from others."""
        active = (one for one in _doors(subscription) if one.health.is_active)
        return next((f"{parts.masked(one.host)} ({one})" for one in active), "")

    @admin.display(description=_("last switches"))
    def masked_switches(self, subscription: Subscription) -> str:
        """How its active endpoint changed."""
        return parts.switches(subscription, show=parts.masked)

    @admin.display(description=_("health"), empty_value="-")
    def health(self, subscription: Subscription) -> str:
        """How many of its endpoints are well."""
        if subscription.unreadable_since:
            return badges.badge("unhealthy", str(_("cannot be read")))
        doors = [one for one in _doors(subscription) if one.is_usable]
        if not doors:
            return ""
        well = sum(one.health.is_callable for one in doors)
        kind = "healthy" if well == len(doors) else "trial" if well else "unhealthy"
        counts = {"well": well, "count": len(doors)}
        return badges.badge(kind, str(_("%(well)d of %(count)d well") % counts))

    @admin.display(description=_("last switches"))
    def recent_switches(self, subscription: Subscription) -> str:
        """How its active endpoint changed."""
        return parts.switches(subscription)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """Save, and warn of a backup that would fall together with another endpoint."""
        super().save_related(request, form, formsets, change)
        hosts = [one.host for one in Endpoint.objects.filter(subscription=form.instance)]
        if len(set(hosts)) < len(hosts):
            self.message_user(
                request,
                _("Two endpoints are on the same host: they may fail together."),
                messages.WARNING,
            )

    @admin.display(description=_("owner"), empty_value="-")
    def owner_name(self, subscription: Subscription) -> str:
        """Whose it is."""
        return f"{subscription.owner_type} {subscription.owner_id}".strip()

    @admin.display(description=_("signing keys"))
    def keys(self, subscription: Subscription) -> str:
        """Its keys, as much as tells them apart."""
        now = timezone.now()
        return parts.table(
            [_("Kind"), _("Key"), _("Created"), _("By"), _("Signs")],
            (
                (
                    one.kind if one.is_readable else "-",
                    one.masked,
                    parts.moment(one.created_at),
                    one.created_by,
                    _signs(one, now),
                )
                for one in subscription.signing_keys.all()
            ),
        )

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

    @admin.action(
        description=_("Switch back to the first healthy endpoint"), permissions=["change"]
    )
    def fail_back(self, request: HttpRequest, queryset: QuerySet[Subscription]) -> None:
        """Leave the backup, although the subscription would stay there."""
        by = request.user.get_username()
        found = [one for one in queryset if one.fail_back("asked in the admin", by=by)]
        message = ngettext(
            "%(count)d subscription switched back.",
            "%(count)d subscriptions switched back.",
            len(found),
        )
        self.message_user(request, message % {"count": len(found)}, _level(found))

    @admin.action(description=_("Rotate the signing keys"), permissions=["change"])
    def rotate_keys(
        self, request: HttpRequest, queryset: QuerySet[Subscription]
    ) -> HttpResponse | None:
        """Ask how, then give each a new key and show what its receiver needs, this once."""
        return rotation.answer(self, request, queryset)


def _signs(key: SigningKey, now: datetime) -> str:
    if key.expires_at is None:
        return str(_("until it is rotated"))
    word = _("until %(time)s") if key.signs_at(now) else _("no more since %(time)s")
    return str(word) % {"time": parts.moment(key.expires_at)}


def _doors(subscription: Subscription) -> list[Endpoint]:
    return [one for one in subscription.endpoints.all() if hasattr(one, "health")]


def _level(changed: Sequence[Subscription]) -> int:
    return messages.SUCCESS if changed else messages.WARNING

"""Endpoints: a list to watch, and to act from; they are edited in their subscription."""

from __future__ import annotations

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from ..models import Endpoint, Health, Probe
from ..sending import probes
from . import badges, parts, trail
from .mixins import MaskedHosts, RecordAdmin, permitted, sees_hosts


class PinForm(forms.Form):
    """Why an endpoint is pinned."""

    reason = forms.CharField(
        label=_("Reason"),
        max_length=200,
        widget=forms.TextInput(attrs={"class": "vTextField", "autofocus": True}),
        help_text=_("For those who come after you: what is going on, and until when."),
    )


@admin.register(Endpoint)
class EndpointAdmin(MaskedHosts, RecordAdmin):
    """Watch endpoints, and act on them; they are edited in their subscription."""

    empty_list = _(
        "There is no endpoint yet. Endpoints are added on the page of their subscription."
    )

    masks = {
        "host_name": "masked_host",
        "recent_probes": "masked_probes",
        "recent_switches": "masked_switches",
    }
    owner_path = "subscription__"
    actions = ["probe_now", "pin", "unpin", "enable", "disable"]
    list_display = [
        "subscription",
        "host_name",
        "health_badge",
        "since",
        "mark",
        "role",
        "last_success",
    ]
    list_display_links = ["host_name"]
    list_filter = ["health__state", "probe"]
    list_select_related = ["subscription", "health"]
    ordering = ["subscription__name", "subscription_id", "position"]
    search_fields = ["subscription__name"]
    search_help_text = _("Name of a subscription.")
    fields = readonly_fields = (
        "subscription",
        "host_name",
        "role",
        "mark",
        "health_badge",
        "since",
        "hold",
        "last_success",
        "last_failure",
        "last_probe",
        "probe",
        "pin_reason",
        "pinned_by",
        "disabled",
        "disabled_reason",
        "deliveries",
        "recent_probes",
        "recent_switches",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Endpoint]:
        """Read subscription and health with each row."""
        return super().get_queryset(request).select_related("subscription", "health")

    def has_pin_permission(self, request: HttpRequest) -> bool:
        """Say whether the user may decide where the traffic goes."""
        return permitted(request, "pin_endpoint")

    def has_probe_permission(self, request: HttpRequest) -> bool:
        """Say whether the user may have endpoints asked."""
        return permitted(request, "probe_endpoint")

    def has_operate_permission(self, request: HttpRequest) -> bool:
        """Say whether the user may act on endpoints: those who may change them elsewhere."""
        return request.user.has_perm(f"{self.opts.app_label}.change_endpoint")

    @admin.display(description=_("host"))
    def host_name(self, endpoint: Endpoint) -> str:
        """The part of the URL that is no secret."""
        return endpoint.host

    @admin.display(description=_("host"))
    def masked_host(self, endpoint: Endpoint) -> str:
        """Enough of it to tell it from others."""
        return parts.masked(endpoint.host)

    @admin.display(description=_("last switches"))
    def masked_switches(self, endpoint: Endpoint) -> str:
        """How the active endpoint of its subscription changed."""
        return parts.switches(endpoint.subscription, show=parts.masked)

    @admin.display(description=_("place"), ordering="position")
    def role(self, endpoint: Endpoint) -> str:
        """Primary, or which backup."""
        return str(_("primary")) if endpoint.position == 0 else f"{_('backup')} {endpoint.position}"

    @admin.display(description=_("active"))
    def mark(self, endpoint: Endpoint) -> str:
        """Whether deliveries go there, and whether somebody asked for it."""
        return parts.mark(endpoint) or "-"

    @admin.display(description=_("health"), ordering="health__state")
    def health_badge(self, endpoint: Endpoint) -> str:
        """Whether it may be called, and why not."""
        return badges.health_of(endpoint)

    @admin.display(description=_("since"))
    def since(self, endpoint: Endpoint) -> str:
        """Since when it has been as it is."""
        health = parts.health_of(endpoint)
        return parts.moment((health.failing_since or health.since) if health else None)

    @admin.display(description=_("held until"))
    def hold(self, endpoint: Endpoint) -> str:
        """Before which moment it is not tried."""
        health = parts.health_of(endpoint)
        return parts.moment(health.hold_until if health else None)

    @admin.display(description=_("last success"))
    def last_success(self, endpoint: Endpoint) -> str:
        """When a delivery arrived, to a few seconds."""
        health = parts.health_of(endpoint)
        return parts.moment(health.succeeded_at if health else None)

    @admin.display(description=_("last failure"))
    def last_failure(self, endpoint: Endpoint) -> str:
        """When a delivery failed for its fault."""
        health = parts.health_of(endpoint)
        return parts.moment(health.failed_at if health else None)

    @admin.display(description=_("last probe"))
    def last_probe(self, endpoint: Endpoint) -> str:
        """When it was last probed."""
        health = parts.health_of(endpoint)
        return parts.moment(health.probed_at if health else None)

    @admin.display(description=_("deliveries"))
    def deliveries(self, endpoint: Endpoint) -> str:
        """Those that were attempted there."""
        address = reverse("admin:django_webhooks_delivery_changelist")
        shown = _("those that were attempted there")
        return format_html('<a href="{}?endpoint={}">{}</a>', address, endpoint.pk, shown)

    @admin.display(description=_("disabled"))
    def disabled(self, endpoint: Endpoint) -> str:
        """Since when nothing is sent to it."""
        return parts.moment(endpoint.disabled_at)

    @admin.display(description=_("last probes"))
    def masked_probes(self, endpoint: Endpoint) -> str:
        """The health timeline, without details: they may quote the host."""
        return self.recent_probes(endpoint, sees=False)

    @admin.display(description=_("last probes"))
    def recent_probes(self, endpoint: Endpoint, *, sees: bool = True) -> str:
        """The health timeline."""
        found = Probe.objects.filter(endpoint=endpoint).order_by("-pk")[: parts.SHOWN]
        headings = [_("When"), _("Kind"), _("Result"), _("Duration"), _("Detail")]
        return parts.table(
            headings,
            (
                (
                    parts.moment(one.started_at),
                    one.get_kind_display(),
                    badges.badge("healthy", str(_("ok")))
                    if one.succeeded
                    else badges.badge("unhealthy", one.reason),
                    f"{one.duration_ms} ms",
                    one.detail if sees else "…" if one.detail else "",
                )
                for one in found
            ),
        )

    @admin.display(description=_("last switches"))
    def recent_switches(self, endpoint: Endpoint) -> str:
        """How the active endpoint of its subscription changed."""
        return parts.switches(endpoint.subscription)

    @admin.action(description=_("Probe now"), permissions=["probe"])
    def probe_now(self, request: HttpRequest, queryset: QuerySet[Endpoint]) -> None:
        """Ask the endpoints whether they are alive, and say what they answer."""
        keys = list(queryset.filter(disabled_at__isnull=True).values_list("pk", flat=True))
        count = probes.check_all(using=queryset.db, endpoints=keys)
        for endpoint in queryset.filter(pk__in=keys):
            trail.note(self, request, endpoint, "endpoint.probed")
        bad = [
            one
            for one in Health.objects.using(queryset.db).filter(pk__in=keys)
            if (last := Probe.objects.filter(endpoint=one.pk).order_by("-pk").first())
            and not last.succeeded
        ]
        self.message_user(
            request,
            ngettext(
                "%(count)d endpoint probed, %(bad)d of them failed.",
                "%(count)d endpoints probed, %(bad)d of them failed.",
                count,
            )
            % {"count": count, "bad": len(bad)},
            messages.WARNING if bad or not count else messages.SUCCESS,
        )

    @admin.action(description=_("Pin selected endpoints"), permissions=["pin"])
    def pin(self, request: HttpRequest, queryset: QuerySet[Endpoint]) -> HttpResponse | None:
        """Send everything there, for a reason that is asked first."""
        endpoints = list(queryset)
        form = PinForm(request.POST if "confirmed" in request.POST else None)
        if "confirmed" in request.POST and form.is_valid():
            usable = [one for one in endpoints if one.is_usable]
            for endpoint in usable:
                reason = form.cleaned_data["reason"]
                endpoint.pin(reason, by=request.user.get_username())
                self.log_change(request, endpoint, "endpoint.pinned")
            self._tell(request, "pinned", len(usable))
            return None
        context = {
            **self.admin_site.each_context(request),
            "title": _("Pin endpoints"),
            "opts": self.opts,
            "endpoints": [(one, parts.label(one, sees=sees_hosts(request))) for one in endpoints],
            "form": form,
            "action_checkbox_name": ACTION_CHECKBOX_NAME,
        }
        return TemplateResponse(request, "admin/django_webhooks/pin.html", context)

    @admin.action(description=_("Lift the pin"), permissions=["pin"])
    def unpin(self, request: HttpRequest, queryset: QuerySet[Endpoint]) -> None:
        """Let the health of the endpoints decide again."""
        pinned = list(queryset.filter(pinned_at__isnull=False))
        for endpoint in pinned:
            endpoint.unpin(by=request.user.get_username())
            self.log_change(request, endpoint, "endpoint.unpinned")
        self._tell(request, "unpinned", len(pinned))

    @admin.action(description=_("Enable selected endpoints"), permissions=["operate"])
    def enable(self, request: HttpRequest, queryset: QuerySet[Endpoint]) -> None:
        """Send to them again, with a clean slate."""
        found = list(queryset.filter(disabled_at__isnull=False))
        for endpoint in found:
            endpoint.enable()
            self.log_change(request, endpoint, "endpoint.enabled")
        self._tell(request, "enabled", len(found))

    @admin.action(description=_("Disable selected endpoints"), permissions=["operate"])
    def disable(self, request: HttpRequest, queryset: QuerySet[Endpoint]) -> None:
        """Send nothing to them any more."""
        found = list(queryset.filter(disabled_at__isnull=True))
        for endpoint in found:
            endpoint.disable(f"by {request.user.get_username()}")
            self.log_change(request, endpoint, "endpoint.disabled")
        self._tell(request, "disabled", len(found))

    def _tell(self, request: HttpRequest, done: str, count: int) -> None:
        sentence = {
            "pinned": ngettext("%(count)d endpoint pinned.", "%(count)d endpoints pinned.", count),
            "unpinned": ngettext("%(count)d pin lifted.", "%(count)d pins lifted.", count),
            "enabled": ngettext(
                "%(count)d endpoint enabled.", "%(count)d endpoints enabled.", count
            ),
            "disabled": ngettext(
                "%(count)d endpoint disabled.", "%(count)d endpoints disabled.", count
            ),
        }[done]
        level = messages.SUCCESS if count else messages.WARNING
        self.message_user(request, sentence % {"count": count}, level)

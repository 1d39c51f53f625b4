"""Endpoints: a list to watch, and to act from; they are edited in their subscription."""

from __future__ import annotations

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from ..models import Endpoint, EndpointHealth, Probe
from ..sending import health_checks
from . import action_log, answers, badges, html, links
from .mixins import HostColumns, MaskedHosts, RecordAdmin, SwitchColumns, needs, sees_hosts
from .times import moment_column


class PinForm(forms.Form):
    """Why an endpoint is pinned."""

    reason = forms.CharField(
        label=_("Reason"),
        max_length=200,
        widget=forms.TextInput(attrs={"class": "vTextField", "autofocus": True}),
        help_text=_("For those who come after you: what is going on, and until when."),
    )


@admin.register(Endpoint)
class EndpointAdmin(HostColumns, SwitchColumns, MaskedHosts, RecordAdmin):
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
        "disabled_by",
        "deliveries",
        "recent_probes",
        "recent_switches",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Endpoint]:
        """Read subscription and health with each row."""
        return super().get_queryset(request).select_related("subscription", "health")

    has_pin_permission = needs("pin_endpoint")
    has_probe_permission = needs("probe_endpoint")
    # Users who may change endpoints elsewhere may act on them.
    has_operate_permission = needs("change_endpoint")

    hold = moment_column(_("held until"), "health.hold_until")
    last_success = moment_column(_("last success"), "health.succeeded_at")
    last_failure = moment_column(_("last failure"), "health.failed_at")
    last_probe = moment_column(_("last probe"), "health.probed_at")
    disabled = moment_column(_("disabled"), "disabled_at")

    @admin.display(description=_("place"), ordering="position")
    def role(self, endpoint: Endpoint) -> str:
        """Primary, or which backup."""
        return str(_("primary")) if endpoint.position == 0 else f"{_('backup')} {endpoint.position}"

    @admin.display(description=_("active"))
    def mark(self, endpoint: Endpoint) -> str:
        """Whether deliveries go there, and whether somebody asked for it."""
        return html.mark(endpoint) or "-"

    @admin.display(description=_("health"), ordering="health__state")
    def health_badge(self, endpoint: Endpoint) -> str:
        """Whether it may be called, and why not."""
        return badges.health_of(endpoint)

    @admin.display(description=_("since"))
    def since(self, endpoint: Endpoint) -> str:
        """Since when it has been as it is."""
        health = html.health_of(endpoint)
        return html.moment((health.failing_since or health.since) if health else None)

    @admin.display(description=_("deliveries"))
    def deliveries(self, endpoint: Endpoint) -> str:
        """A link to the deliveries that were attempted there."""
        address = links.address(self.admin_site, "delivery")
        if not address:
            return "-"
        shown = _("those that were attempted there")
        return format_html('<a href="{}?endpoint={}">{}</a>', address, endpoint.pk, shown)

    @admin.display(description=_("last probes"))
    def masked_probes(self, endpoint: Endpoint) -> str:
        """The health timeline, without details: they may quote the host."""
        return self.recent_probes(endpoint, sees=False)

    @admin.display(description=_("last probes"))
    def recent_probes(self, endpoint: Endpoint, *, sees: bool = True) -> str:
        """The health timeline."""
        found = Probe.objects.filter(endpoint=endpoint).order_by("-pk")[: html.SHOWN]
        headings = [_("When"), _("Kind"), _("Result"), _("Duration"), _("Detail")]
        return html.table(
            headings,
            (
                (
                    html.moment(one.started_at),
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

    @admin.action(description=_("Probe now"), permissions=["probe"])
    def probe_now(self, request: HttpRequest, queryset: QuerySet[Endpoint]) -> None:
        """Ask the endpoints whether they are alive, and say what they answer."""
        keys = list(queryset.filter(disabled_at__isnull=True).values_list("pk", flat=True))
        count = health_checks.check_all(using=queryset.db, endpoints=keys)
        for endpoint in queryset.filter(pk__in=keys):
            action_log.log(self, request, endpoint, "endpoint.probed")
        bad = [
            one
            for one in EndpointHealth.objects.using(queryset.db).filter(pk__in=keys)
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
            words = ngettext(
                "%(count)d endpoint pinned.", "%(count)d endpoints pinned.", len(usable)
            )
            answers.tell(self, request, words, len(usable))
            return None
        return answers.page(
            self,
            request,
            "django_webhooks/pin",
            title=_("Pin endpoints"),
            endpoints=[(one, html.label(one, sees=sees_hosts(request))) for one in endpoints],
            form=form,
            action_checkbox_name=ACTION_CHECKBOX_NAME,
        )

    @admin.action(description=_("Lift the pin"), permissions=["pin"])
    def unpin(self, request: HttpRequest, queryset: QuerySet[Endpoint]) -> None:
        """Let the health of the endpoints decide again."""
        pinned = list(queryset.filter(pinned_at__isnull=False))
        for endpoint in pinned:
            endpoint.unpin(by=request.user.get_username())
            self.log_change(request, endpoint, "endpoint.unpinned")
        words = ngettext("%(count)d pin lifted.", "%(count)d pins lifted.", len(pinned))
        answers.tell(self, request, words, len(pinned))

    @admin.action(description=_("Enable selected endpoints"), permissions=["operate"])
    def enable(self, request: HttpRequest, queryset: QuerySet[Endpoint]) -> None:
        """Send to them again, with a clean slate."""
        found = list(queryset.filter(disabled_at__isnull=False))
        for endpoint in found:
            endpoint.enable()
            self.log_change(request, endpoint, "endpoint.enabled")
        words = ngettext("%(count)d endpoint enabled.", "%(count)d endpoints enabled.", len(found))
        answers.tell(self, request, words, len(found))

    @admin.action(description=_("Disable selected endpoints"), permissions=["operate"])
    def disable(self, request: HttpRequest, queryset: QuerySet[Endpoint]) -> None:
        """Send nothing to them any more."""
        found = list(queryset.filter(disabled_at__isnull=True))
        for endpoint in found:
            endpoint.disable(by=request.user.get_username())
            self.log_change(request, endpoint, "endpoint.disabled")
        words = ngettext(
            "%(count)d endpoint disabled.", "%(count)d endpoints disabled.", len(found)
        )
        answers.tell(self, request, words, len(found))

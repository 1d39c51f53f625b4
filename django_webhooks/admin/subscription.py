"""Subscriptions: who listens to which event types."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Prefetch, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import path
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from .. import wakeups
from ..commits import after_commit
from ..fields import undecryptable_fields
from ..models import Endpoint, SigningKey, Subscription, Switch
from ..sending import database
from ..sending.figures import statistics
from . import action_log, answers, badges, charts, html, links, operations, rotation, scope
from .action_log import Audited
from .endpoint_inline import EndpointInline
from .mixins import MaskedHosts, needs, permitted
from .paging import BoundedPaginator
from .scope import Scoped
from .subscription_columns import Columns
from .subscription_form import SubscriptionForm


@admin.register(Subscription)
class SubscriptionAdmin(Columns, Audited, MaskedHosts, Scoped, admin.ModelAdmin):  # type: ignore[type-arg]  # generic for type checkers alone
    """Edit subscriptions, pause and resume them."""

    masks = {"active_host": "masked_active", "recent_switches": "masked_switches"}
    empty_list = _("There is no subscription yet, so that nothing is sent. Add the first one.")
    change_list_template = "admin/django_webhooks/list.html"
    form = SubscriptionForm
    paginator = BoundedPaginator
    change_form_template = "admin/django_webhooks/subscription.html"
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
        "listens_to",
        "status",
        "status_reason",
        "status_by",
        "changed",
        "owner_name",
        "unreadable",
        "keys",
        "recent_switches",
        "made",
        "waits",
    ]

    class Media:
        css = badges.MEDIA
        js = badges.SCRIPTS

    has_pause_permission = needs("pause_subscription")
    has_pin_permission = needs("pin_endpoint")
    has_rotate_permission = needs("rotate_key")

    def get_urls(self) -> list[Any]:
        """Add the pages of the operations."""
        operate = path(
            "<uuid:key>/operate/<slug:name>/",
            self.admin_site.admin_view(self.operate_view),
            name="django_webhooks_subscription_operate",
        )
        return [operate, *super().get_urls()]

    @action_log.as_user
    def operate_view(self, request: HttpRequest, key: UUID, name: str) -> HttpResponse:
        """Ask what an operation has to know, do it, and go back."""
        operation = operations.OPERATIONS.get(name)
        row = self.get_object(request, str(key))
        if operation is None or row is None or not self._is_there(name):
            raise Http404
        if not permitted(request, operation.permission) or not self.has_view_permission(
            request, row
        ):
            raise PermissionDenied
        back = links.redirect(self, "subscription", "change", key)
        if not operation.applies(row):
            self.message_user(request, _("There is nothing to do."), messages.WARNING)
            return back
        if name in operations.ASK_THEMSELVES:
            return operation.run(self, request, row, None) or back
        data = request.POST if request.method == "POST" else None
        form = operation.form(data, request=request, row=row)
        if data is not None and form.is_valid():
            answer = operation.run(self, request, row, form)
            if not form.errors:
                return answer or back
        return answers.page(
            self,
            request,
            "django_webhooks/operation",
            title=operation.title,
            original=row,
            operation=operation,
            form=form,
        )

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any
    ) -> Any:
        """Limit the owners."""
        form: Any = super().get_form(request, obj, change, **kwargs)
        form.owners = scope.owners(request)
        return form

    def get_queryset(self, request: HttpRequest) -> QuerySet[Subscription]:
        """Read the patterns and endpoints of all rows at once."""
        endpoints = Prefetch("endpoints", queryset=Endpoint.objects.select_related("health"))
        return super().get_queryset(request).prefetch_related("patterns", endpoints)

    def render_change_form(
        self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any
    ) -> Any:
        """Warn of what cannot be decrypted."""
        subscription = kwargs.get("obj")
        if subscription is not None:
            context.update(self._summary(request, subscription))
        if subscription is not None and request.method == "GET":
            rows = [*subscription.endpoints.all(), *subscription.signing_keys.all()]
            whys = {why for row in rows for why in undecryptable_fields(row).values()}
            for why in sorted(whys):
                self.message_user(
                    request,
                    _("Something here cannot be read, and its deliveries wait. %(why)s")
                    % {"why": why},
                    messages.WARNING,
                )
        return super().render_change_form(request, context, *args, **kwargs)

    def _is_there(self, operation: str) -> bool:
        """Say whether the site has the page that an operation leads to."""
        return operation != "replay" or bool(links.address(self.admin_site, "bulkreplay", "add"))

    def _summary(self, request: HttpRequest, subscription: Subscription) -> dict[str, Any]:
        """Return what the page shows above the form."""
        using = database.alias()
        day = statistics.RANGES["24h"]
        figures = statistics.figures(day, subscriptions=[subscription.pk], using=using)
        words = _("Last 24 hours: %(arrived)d arrived, %(given_up)d given up.") % {
            "arrived": figures.succeeded,
            "given_up": figures.given_up,
        }
        allowed = [
            one
            for one in operations.OPERATIONS.values()
            if permitted(request, one.permission)
            and one.applies(subscription)
            and self._is_there(one.name)
        ]
        recent = ""
        if permitted(request, "view_delivery"):
            recent = html.deliveries(subscription, site=self.admin_site, using=using)
        return {
            "operations": allowed,
            "recent": recent,
            "sparkline": charts.sparkline(
                [one.succeeded for one in figures.parts],
                [one.given_up for one in figures.parts],
                title=str(words),
            ),
            "sparkline_words": words,
        }

    def get_fieldsets(self, request: HttpRequest, obj: Subscription | None = None) -> Any:
        """Show the signing secret while it is new, and enough to tell it apart afterwards."""
        first_key = ["signing_secret"] if permitted(request, "see_secret") else []
        signatures = [*(["keys"] if obj else first_key), "signature_style"]
        state = ["status", "status_reason", "status_by", "unreadable", "changed", "made"]
        policy = [
            "ordering",
            "timeout_seconds",
            "retry_attempts",
            "retry_base_seconds",
            "retry_cap_seconds",
        ]
        policy.append("client_errors_final")
        thresholds = [
            ("health_fall", "health_rise"),
            ("health_window_seconds", "health_window_attempts", "health_window_share"),
            ("health_hold_seconds", "health_hold_cap_seconds"),
            "disable_after_seconds",
        ]
        failover = [
            "failover",
            "failback",
            "health_statuses",
            *(self._masked(request, ["recent_switches"]) if obj else []),
        ]
        is_limited = scope.owners(request) is not None
        audience = ["owner_name" if obj and is_limited else "owner"]
        if not is_limited:
            audience.append("is_global")
        types = ["declared_types", "event_types"]
        if obj and not self.has_change_permission(request, obj):
            types, audience = ["listens_to"], ["owner_name", "is_global"]
        return [
            (None, {"fields": ["name", "description", *types, *audience]}),
            (_("Signatures"), {"fields": signatures}),
            (_("Delivery"), {"fields": policy}),
            (
                _("Limits"),
                {
                    "fields": [
                        ("rate_limit_per_second", "max_in_flight"),
                        *(["waits"] if obj else []),
                    ],
                    "description": _(
                        "For a receiver that cannot take all at once. What may not go yet waits, "
                        "and goes oldest first."
                    ),
                },
            ),
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

    @admin.action(description=_("Pause selected subscriptions"), permissions=["pause"])
    def pause(self, request: HttpRequest, queryset: QuerySet[Subscription]) -> None:
        """Stop sending; what happens meanwhile waits."""
        found = list(queryset.filter(status=Subscription.Status.ACTIVE))
        for subscription in found:
            subscription.pause(by=request.user.get_username())
            self.log_change(request, subscription, "subscription.paused")
        message = ngettext(
            "%(count)d subscription paused.", "%(count)d subscriptions paused.", len(found)
        )
        answers.tell(self, request, message, len(found))

    @admin.action(description=_("Resume selected subscriptions"), permissions=["pause"])
    def resume(self, request: HttpRequest, queryset: QuerySet[Subscription]) -> None:
        """Send again, what waited first."""
        found = list(queryset.exclude(status=Subscription.Status.ACTIVE))
        for subscription in found:
            subscription.resume()
            self.log_change(request, subscription, "subscription.resumed")
        if found:
            after_commit(lambda: wakeups.wake([]), using=queryset.db)
        message = ngettext(
            "%(count)d subscription resumed.", "%(count)d subscriptions resumed.", len(found)
        )
        answers.tell(self, request, message, len(found))

    @admin.action(description=_("Switch back to the first healthy endpoint"), permissions=["pin"])
    def fail_back(self, request: HttpRequest, queryset: QuerySet[Subscription]) -> None:
        """Leave the backup, although the subscription would stay there."""
        by = request.user.get_username()
        found = [one for one in queryset if one.fail_back(by=by)]
        for subscription in found:
            self.log_change(request, subscription, "subscription.failed_back")
        message = ngettext(
            "%(count)d subscription switched back.",
            "%(count)d subscriptions switched back.",
            len(found),
        )
        answers.tell(self, request, message, len(found))

    @admin.action(description=_("Rotate the signing keys"), permissions=["rotate"])
    def rotate_keys(
        self, request: HttpRequest, queryset: QuerySet[Subscription]
    ) -> HttpResponse | None:
        """Ask how, then give each a new key and show what its receiver needs, this once."""
        return rotation.answer(self, request, queryset)

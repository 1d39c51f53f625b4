"""Deliveries: where each event is on its way, and why; and what can be done about it."""

from __future__ import annotations

from typing import Any, cast
from urllib.parse import urlencode

from django.contrib import admin, messages
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from .. import audit_log, wakeups
from ..models import Attempt, Delivery, Event, Subscription
from ..models.delivery import DeliveryQuerySet
from ..policies.ordering import EVERYTHING
from ..sending import database
from ..sending.database import DatabaseClock
from . import answers, badges, filters, html, links, scope, timeline
from .mixins import RecordAdmin, needs, sees_hosts
from .scope import key_of
from .times import moment, moment_column

#: Deliveries that are named one by one in the address of a page.
NAMED = 200


@admin.register(Delivery)
class DeliveryAdmin(RecordAdmin):
    """Look at deliveries, and send again what is over."""

    empty_list = _(
        "Nothing was sent yet. Deliveries appear here once an event happens that a "
        "subscription listens to; a test event is sent from the page of a subscription."
    )

    actions = ["replay_deliveries", "try_now", "cancel_deliveries"]
    change_form_template = "admin/django_webhooks/delivery.html"
    list_display = [
        "short_id",
        "result",
        "recorded",
        "due_or_finished",
        "event_type",
        "subscription",
        "attempts_made",
    ]
    list_filter = [
        filters.StatusFilter,
        filters.ReplayedFilter,
        filters.RecentlyFinishedFilter,
        filters.RecentFilter,
        filters.DeliveryEventTypeFilter,
        filters.SubscriptionFilter,
        filters.ReasonFilter,
        filters.StatusCodeFilter,
        filters.HostFilter,
        filters.EndpointFilter,
        filters.BulkReplayFilter,
        filters.FinishedSinceFilter,
        filters.FinishedUntilFilter,
        filters.SinceFilter,
        filters.UntilFilter,
    ]
    owner_path = "subscription__"
    search_fields = ["pk"]
    search_help_text = _("Message id (msg_…), idempotency key, host, or name of a subscription.")
    sortable_by = ["recorded"]
    event_key = "event_id"
    fields = readonly_fields = (
        "event_link",
        "event_type",
        "idempotency_key",
        "in_order",
        "subscription",
        "state",
        "why",
        "cancelled_by",
        "attempts_made",
        "due",
        "recorded",
        "finished",
        "replay_of",
        "bulk_replay",
        "sent_to",
    )

    has_replay_permission = needs("replay_delivery")
    has_cancel_permission = needs("cancel_delivery")

    due = moment_column(_("due"), "due_at")
    recorded = moment_column(_("recorded"), "created_at", ordering="pk")
    finished = moment_column(_("finished"), "finished_at")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Delivery]:
        """Leave the bodies where they are."""
        rows = cast(DeliveryQuerySet, super().get_queryset(request)).with_arrival()
        found: QuerySet[Delivery] = rows.select_related("event", "subscription")
        return found.defer("event__body")

    def get_list_filter(self, request: HttpRequest) -> Any:
        """Offer no search by host to those who do not see hosts."""
        return [one for one in self.list_filter if sees_hosts(request) or one != filters.HostFilter]

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        """Take the parameters of the filters, and nothing that leads to other tables."""
        return lookup in (*filters.FIELDS, *filters.RECENT)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Delivery], search_term: str
    ) -> tuple[QuerySet[Delivery], bool]:
        """Find by message id, by idempotency key, by host, or by the name of a subscription."""
        term = search_term.strip()
        if not term:
            return queryset, False
        if (key := key_of(term)) is not None:
            found = Q(pk=key) | Q(event_id=key)
            return queryset.filter(found), False
        using = queryset.db
        # One way after the other: conditions joined by OR would read the whole table.
        # The search goes on past events of other owners: an end would tell that they exist.
        events = scope.narrow(request, Event.objects.using(using).filter(idempotency_key=term))
        if keys := list(events.values_list("pk", flat=True)[:NAMED]):
            return queryset.filter(event_id__in=keys), False
        attempts = Attempt.objects.using(using).filter(endpoint_host=term)
        own = scope.narrow(request, attempts, "delivery__subscription__")
        if sees_hosts(request) and own.exists():
            return queryset.filter(Exists(attempts.filter(delivery_id=OuterRef("pk")))), False
        subscriptions = Subscription.objects.using(using).filter(name__icontains=term)
        named = list(scope.narrow(request, subscriptions).values_list("pk", flat=True)[:1000])
        return queryset.filter(subscription_id__in=named), False

    def has_bulk_replay_permission(self, request: HttpRequest) -> bool:
        """Say whether the site also has the page that asks what a replay has to know."""
        has_page = bool(links.address(self.admin_site, "bulkreplay", "add"))
        return has_page and self.has_replay_permission(request)

    def render_change_form(self, request: HttpRequest, context: Any, **kwargs: Any) -> Any:  # type: ignore[override]  # passed on
        """Put the sentence and the timeline on the page."""
        delivery: Delivery = kwargs["obj"]
        context.update(
            timeline.context(request, delivery),
            title=delivery.message_id,
            subtitle=None,
            can_replay=self.has_replay_permission(request)
            and delivery.is_over
            and delivery.subscription_id is not None,
            can_try=self.has_replay_permission(request) and not delivery.is_over,
            can_cancel=self.has_cancel_permission(request) and not delivery.is_over,
        )
        return super().render_change_form(request, context, **kwargs)

    @admin.display(description=_("message id"))
    def short_id(self, delivery: Delivery) -> Any:
        """The end of the ``webhook-id``, which begins with the time."""
        whole = delivery.message_id
        return format_html(
            '<span class="webhooks-id" title="{}">msg_…{}</span>', whole, whole[-12:]
        )

    @admin.display(description=_("event"))
    def event_link(self, delivery: Delivery) -> Any:
        """The event, which may have other deliveries."""
        return links.link(self.admin_site, "event", delivery.event_id, delivery.event.message_id)

    @admin.display(description=_("event type"))
    def event_type(self, delivery: Delivery) -> str:
        """The type of its event."""
        return delivery.event.type

    @admin.display(description=_("idempotency key"))
    def idempotency_key(self, delivery: Delivery) -> str:
        """The key by which the project named the event."""
        return delivery.event.idempotency_key or "-"

    @admin.display(description=_("ordering key"))
    def in_order(self, delivery: Delivery) -> str:
        """The ordering key, and whether the delivery waits its turn."""
        key = delivery.event.ordering_key or "-"
        if delivery.partition == EVERYTHING:
            return gettext("%(key)s (all of the subscription, in order)") % {"key": key}
        if delivery.partition:
            return gettext("%(key)s (in order)") % {"key": key}
        return key

    @admin.display(description=_("status"))
    def result(self, delivery: Delivery) -> Any:
        """Its status, and why it has that, in one badge."""
        return _badge(delivery, delivery.reason)

    @admin.display(description=_("status"))
    def state(self, delivery: Delivery) -> Any:
        """Its status, as a badge."""
        return _badge(delivery)

    @admin.display(description=_("finished or due"))
    def due_or_finished(self, delivery: Delivery) -> Any:
        """When it was over, or when it is attempted next."""
        if delivery.due_at is None:
            return moment(delivery.finished_at)
        return format_html("{} {}", _("due"), moment(delivery.due_at))

    @admin.display(description=_("reason"), empty_value="-")
    def why(self, delivery: Delivery) -> str:
        """Why the last attempt failed, or why it is over: the code, and what it means."""
        return html.reason(delivery.reason)

    @admin.display(description=_("sent to"), empty_value="-")
    def sent_to(self, delivery: Delivery) -> Any:
        """The endpoint that it was meant for."""
        if delivery.endpoint is None:
            return _("the active endpoint")
        return links.link(self.admin_site, "endpoint", delivery.endpoint_id, str(delivery.endpoint))

    @admin.action(description=_("Replay selected deliveries"), permissions=["bulk_replay"])
    def replay_deliveries(
        self, request: HttpRequest, queryset: QuerySet[Delivery]
    ) -> HttpResponse | None:
        """Lead to the page that counts them first; all of the list by their filters."""
        if request.POST.get("select_across") == "1" and not request.GET.get("q"):
            asked = {
                name: request.GET[name]
                for name in (*filters.FIELDS, *filters.RECENT)
                if request.GET.get(name)
            }
            # "Everything" is said, so that nobody replays it by an address without parameters.
            asked = asked or {"everything": "1"}
        else:
            ids = list(queryset.order_by().values_list("pk", flat=True)[: NAMED + 1])
            if len(ids) > NAMED:
                self.message_user(
                    request,
                    _("These are too many to be named one by one; use filters instead of the "
                      "search, and select all."),
                    messages.ERROR,
                )  # fmt: skip
                return None
            asked = {"ids": ",".join(one.hex for one in ids)}
        address = links.address(self.admin_site, "bulkreplay", "add")
        return HttpResponseRedirect(f"{address}?{urlencode(asked)}")

    @admin.action(description=_("Try selected deliveries now"), permissions=["replay"])
    def try_now(self, request: HttpRequest, queryset: QuerySet[Delivery]) -> None:
        """Let workers attempt those that wait for a moment."""
        using = database.alias()
        now = DatabaseClock(using=using)()
        keys = list(queryset.order_by().values_list("pk", flat=True))
        count = Delivery.objects.using(using).filter(pk__in=keys).try_now(now)
        if count:
            self._note(request, "deliveries.tried_now", keys, count)
            wakeups.wake([])
        message = ngettext(
            "%(count)d delivery is tried now.", "%(count)d deliveries are tried now.", count
        )
        answers.tell(self, request, message, count)
        if held := queryset.waiting().filter(due_at__isnull=True).count():  # type: ignore[attr-defined]  # a named set
            message = ngettext(
                "%(count)d waits for its subscription rather than for a moment; its page says why.",
                "%(count)d wait for their subscriptions rather than for a moment; their pages say "
                "why.",
                held,
            )
            self.message_user(request, message % {"count": held}, messages.WARNING)

    @admin.action(description=_("Cancel selected deliveries"), permissions=["cancel"])
    def cancel_deliveries(self, request: HttpRequest, queryset: QuerySet[Delivery]) -> None:
        """End those that wait; they can be replayed."""
        using = database.alias()
        keys = list(queryset.order_by().values_list("pk", flat=True))
        rows = Delivery.objects.using(using).filter(pk__in=keys)
        count = rows.cancel(by=request.user.get_username())
        if count:
            self._note(request, "deliveries.cancelled", keys, count)
        message = ngettext(
            "%(count)d delivery cancelled.", "%(count)d deliveries cancelled.", count
        )
        answers.tell(self, request, message, count)

    def _note(self, request: HttpRequest, action: str, keys: list[Any], count: int) -> None:
        by = request.user.get_username()
        shown = [str(key) for key in keys[:NAMED]]
        audit_log.log(action, using=database.alias(), by=by, count=count, deliveries=shown)
        for delivery in Delivery.objects.filter(pk__in=keys[:NAMED]):
            self.log_change(request, delivery, action)


def _badge(delivery: Delivery, reason: str = "") -> SafeString:
    is_given_up = delivery.status == Delivery.Status.GIVEN_UP
    if is_given_up and getattr(delivery, "arrived_otherwise_at", None) is not None:
        return badges.badge("disabled", gettext("Given up, arrived by a replay"))
    return badges.status(delivery.status, badges.because(delivery.get_status_display(), reason))

"""Bulk replays: the page that counts before it begins, and the page that shows how far it is."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Count, QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from .. import replays
from ..conf import settings
from ..exceptions import NothingToReplay
from ..models import BulkReplay, Delivery, Endpoint, Subscription
from ..replays import ReplayOptions, Selection
from ..sending import database
from ..sending.replays import MOMENTS
from . import answers, badges, filters, html, links, scope
from .mixins import RecordAdmin, permitted, sees_hosts
from .replay_form import ReplayForm
from .times import moment_column

#: So far the selected deliveries are counted before they are replayed.
COUNTED = 1_000_000
#: Fields of the selection that the form asks for.
_ASKED = ("status", *MOMENTS)


@admin.register(BulkReplay)
class BulkReplayAdmin(RecordAdmin):
    """Begin bulk replays, and watch them."""

    empty_list = _(
        "Nothing was replayed yet. Select deliveries in their list, and choose to replay them."
    )

    change_form_template = "admin/django_webhooks/bulk_replay.html"
    list_display = ["recorded", "reason", "by", "state", "progress"]
    list_filter = ["status"]
    search_fields = ["reason", "by"]
    sortable_by = ["recorded"]
    fields = readonly_fields = (
        "by",
        "recorded",
        "reason",
        "selected",
        "sent_to",
        "gives_new_message_ids",
        "rate",
        "finished",
    )

    recorded = moment_column(_("created"), "created_at", ordering="pk")
    finished = moment_column(_("finished"), "finished_at")

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may replay."""
        return permitted(request, "replay_delivery")

    def get_queryset(self, request: HttpRequest) -> QuerySet[BulkReplay]:
        """Show who is limited to some owners what they began themselves."""
        rows: QuerySet[BulkReplay] = admin.ModelAdmin.get_queryset(self, request)
        if scope.owners(request) is not None:
            rows = rows.filter(by=request.user.get_username())
        return rows

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return whether the user may replay, or look at deliveries."""
        return self.has_add_permission(request) or permitted(request, "view_delivery")

    def get_urls(self) -> list[Any]:
        """Add the verb that stops one."""
        stop = path(
            "<uuid:key>/stop/",
            self.admin_site.admin_view(self.stop_view),
            name="django_webhooks_bulkreplay_stop",
        )
        return [stop, *super().get_urls()]

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """Count what is selected, ask how it is to be replayed, and begin."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        using = database.alias()
        try:
            chosen = _selection(request)
        except ValueError as error:
            self.message_user(request, str(error), messages.ERROR)
            return links.redirect(self, "delivery")
        form = self._form(request, chosen, using=using)
        if request.method == "POST" and form.is_valid():
            chosen = _narrowed(chosen, form.cleaned_data)
            if "begin" in request.POST:
                answer = self._begin(request, chosen, form, using=using)
                if answer is not None:
                    return answer
        elif request.method != "POST":
            chosen = _narrowed(chosen, dict(form.initial))
        count = replays.candidates(chosen, using=using)[:COUNTED].count()
        named = scope.narrow(request, Subscription.objects.using(using))
        return answers.page(
            self,
            request,
            "django_webhooks/replay",
            title=_("Replay deliveries"),
            form=form,
            count=count,
            chosen=_words(_fixed(chosen), named=named, sees=sees_hosts(request)),
        )

    def _form(self, request: HttpRequest, chosen: Selection, *, using: str) -> ReplayForm:
        endpoints = _endpoints(request, chosen, using=using)
        if request.method == "POST":
            return ReplayForm(request.POST, endpoints=endpoints)
        status = chosen.status if chosen.status != Delivery.Status.WAITING else ""
        if not chosen.ids and not chosen.status:
            status = str(Delivery.Status.GIVEN_UP)
        initial = {
            "token": uuid4(),
            "status": status,
            **{name: getattr(chosen, name) for name in MOMENTS},
            "endpoint": request.GET.get("to", ""),
            "rate": settings.WEBHOOKS_REPLAY_RATE_PER_SECOND,
        }
        return ReplayForm(initial=initial, endpoints=endpoints)

    def _begin(
        self, request: HttpRequest, chosen: Selection, form: ReplayForm, *, using: str
    ) -> HttpResponse | None:
        wanted = form.cleaned_data
        by = request.user.get_username()
        endpoint = UUID(wanted["endpoint"]) if wanted["endpoint"] else None
        replay_options = ReplayOptions(
            endpoint=endpoint, has_new_message_id=wanted["gives_new_message_ids"]
        )
        try:
            with transaction.atomic(using=using):
                made = replays.start(
                    chosen,
                    reason=wanted["reason"],
                    by=by,
                    replay_options=replay_options,
                    rate=wanted["rate"],
                    token=wanted["token"],
                    using=using,
                )
                self.log_addition(request, made, "deliveries.replayed")
        except NothingToReplay as error:
            form.add_error(None, str(error))
            return None
        except ValueError as error:
            form.add_error("endpoint", str(error))
            return None
        return links.redirect(self, "bulkreplay", "change", made.pk)

    def stop_view(self, request: HttpRequest, key: UUID) -> HttpResponse:
        """Stop one; what was replayed stays."""
        one = self.get_object(request, str(key))
        if request.method != "POST" or one is None or not self.has_add_permission(request):
            raise PermissionDenied
        if replays.stop(one, by=request.user.get_username()):
            self.log_change(request, one, "deliveries.replay_stopped")
            self.message_user(request, _("Stopped. What was replayed stays."), messages.SUCCESS)
        return links.redirect(self, "bulkreplay", "change", key)

    def render_change_form(self, request: HttpRequest, context: Any, **kwargs: Any) -> Any:  # type: ignore[override]  # passed on
        """Put the progress on the page."""
        one: BulkReplay = kwargs["obj"]
        counts = dict(one.deliveries.order_by().values_list("status").annotate(Count("pk")))
        is_moving = bool(counts.get(Delivery.Status.WAITING)) or not one.is_over
        context.update(
            title=_("Bulk replay"),
            subtitle=one.reason,
            is_live=is_moving,
            share=100 if one.is_over and not one.total else _share(one),
            badge=self.state(one),
            statuses=[
                (badges.status(value, str(name)), counts[value])
                for value, name in Delivery.Status.choices
                if counts.get(value)
            ],
            can_stop=not one.is_over and self.has_add_permission(request),
        )
        return super().render_change_form(request, context, **kwargs)

    @admin.display(description=_("status"))
    def state(self, one: BulkReplay) -> Any:
        """Whether it is running."""
        return badges.status(one.status, one.get_status_display())

    @admin.display(description=_("progress"))
    def progress(self, one: BulkReplay) -> str:
        """How many of how many."""
        words = _("%(processed)d of %(total)d, %(skipped)d skipped")
        return words % {"processed": one.processed, "total": one.total, "skipped": one.skipped}

    @admin.display(description=_("selection"))
    def selected(self, one: BulkReplay) -> str:
        """The selection, in words."""
        words = _words(Selection.of(one.selection), named=Subscription.objects.all())
        return "; ".join(f"{name}: {value}" for name, value in words)

    @admin.display(description=_("sent to"))
    def sent_to(self, one: BulkReplay) -> str:
        """The endpoint that the deliveries go to."""
        return str(one.endpoint) if one.endpoint else str(_("the active endpoint"))


def _selection(request: HttpRequest) -> Selection:
    """Return what the address of the page selects. Raise ValueError where that is nothing."""
    params, owners = request.GET, scope.stored(request)
    if params.get("host") and not sees_hosts(request):
        # The count would tell where webhooks go.
        raise ValueError(_("You may not see hosts, and so not filter by them."))
    if ids := params.get("ids"):
        keys = [str(UUID(one)) for one in ids.split(",")[:1000]]
        return Selection(ids=keys, owners=owners)
    found = filters.selection(params)
    if not found.stored and "everything" not in params:
        raise ValueError(_("Select the deliveries that are to be replayed in this list."))
    return Selection.of({**found.stored, "owners": owners})


def _narrowed(chosen: Selection, wanted: dict[str, Any]) -> Selection:
    """Return the selection with what the form says: what is empty there limits nothing."""
    return Selection.of({**chosen.stored, **{name: wanted.get(name) for name in _ASKED}})


def _fixed(chosen: Selection) -> Selection:
    """Return what the form does not ask."""
    return Selection.of({k: v for k, v in chosen.stored.items() if k not in _ASKED})


def _endpoints(request: HttpRequest, chosen: Selection, *, using: str) -> list[tuple[str, str]]:
    """Return the endpoints to choose from, where all belong to one subscription."""
    keys = (
        replays.candidates(chosen, using=using)
        .values_list("subscription_id", flat=True)
        .distinct()[:2]
    )
    found = [chosen.subscription] if chosen.subscription else [str(key) for key in keys]
    if len(found) != 1:
        return []
    rows = Endpoint.objects.using(using).usable().filter(subscription_id=found[0])
    sees = sees_hosts(request)
    return [
        (str(one.pk), html.label(one, sees=sees))
        for one in scope.narrow(request, rows, "subscription__")
    ]


def _words(
    chosen: Selection, *, named: QuerySet[Subscription], sees: bool = False
) -> list[tuple[str, str]]:
    """Return a selection in words, with the names of those subscriptions that may be told."""
    stored = chosen.stored
    stored.pop("owners", None)
    words = {
        "ids": _("deliveries"),
        "status": _("status"),
        "event_type": _("event type"),
        "subscription": _("subscription"),
        "endpoint": _("endpoint"),
        "host": _("host"),
        "reason": _("reason"),
        "bulk_replay": _("bulk replay"),
        "replayed": _("replays"),
        "status_code": _("status code"),
        "since": _("recorded since"),
        "until": _("recorded before"),
        "finished_since": _("finished since"),
        "finished_until": _("finished before"),
    }
    found = []
    for name, value in stored.items():
        shown = str(value)
        if name == "ids":
            message = ngettext("%(count)d selected", "%(count)d selected", len(value))
            shown = message % {"count": len(value)}
        elif name == "subscription":
            names = named.filter(pk=value).values_list("name", flat=True)
            shown = names.first() or shown
        elif name == "status":
            shown = str(Delivery.Status(value).label)
        elif name == "replayed":
            shown = str(dict(filters.REPLAYED)[value])
        elif name == "host" and not sees:
            shown = html.masked(shown)
        found.append((str(words[name]), shown))
    return found


def _share(one: BulkReplay) -> int:
    return min(100, round(100 * one.processed / one.total)) if one.total else 0

"""The inbox: what was received, what became of it, and how to have it handled again."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from ... import audit_log, times
from ...admin import answers, badges, timeline
from ...admin.filters import RANGES, RecentFilter
from ...admin.mixins import RecordAdmin, needs, permitted
from ...admin.times import in_text, moment_column
from ...fields import uuid7_at
from .. import deduplication, wakeups
from ..models import InboxMessage

#: Views that are offered in the filter at the most.
OFFERED = 50
#: Messages that are named one by one in the logs.
NAMED = 50


class SourceFilter(admin.SimpleListFilter):
    """The views that received messages."""

    title = _("received by")
    parameter_name = "source"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Offer those there are, found by hopping from one to the next in the index."""
        rows = InboxMessage.objects.using(deduplication.database()).order_by("source")
        found: list[str] = []
        while len(found) < OFFERED:
            more = rows.filter(source__gt=found[-1]) if found else rows
            name = more.values_list("source", flat=True).first()
            if name is None:
                break
            found.append(name)
        return [(name, name) for name in found]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Keep what the view received."""
        value = self.value()
        return queryset.filter(source=value) if value else queryset


class ReceivedFilter(RecentFilter):
    """How long ago it was received."""

    title = _("received")

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Keep what is not older; ids are ordered by time."""
        value = self.value()
        if value not in RANGES:
            return queryset
        return queryset.filter(pk__gte=uuid7_at(times.now() - RANGES[value][1]))


@admin.register(InboxMessage)
class InboxMessageAdmin(RecordAdmin):
    """Look at received messages, and have them handled again."""

    actions = ["replay_messages", "try_now"]
    change_form_template = "admin/django_webhooks_inbox/inbox_message.html"
    list_display = [
        "short_id",
        "state",
        "event_type",
        "received",
        "attempts_made",
        "repeats",
        "source",
    ]
    empty_list = _(
        "Nothing was received yet. What the views that take webhooks receive appears here; see "
        "docs/howto/receive.md."
    )
    list_filter = ["status", SourceFilter, ReceivedFilter]
    search_fields = ["message_id__exact", "event_type__exact"]
    search_help_text = _("Message id, or event type.")
    sortable_by = ["received"]
    fields = readonly_fields = (
        "message_id",
        "event_type",
        "source",
        "scheme",
        "path",
        "state",
        "answer",
        "attempts_made",
        "repeats",
        "received",
        "due",
        "finished",
    )

    has_replay_permission = needs("replay_inboxmessage")
    received = moment_column(_("received"), "received_at", ordering="pk")
    due = moment_column(_("due"), "due_at")
    finished = moment_column(_("finished"), "finished_at")

    def get_queryset(self, request: HttpRequest) -> QuerySet[InboxMessage]:
        """Leave the bodies where they are, in lists."""
        rows: QuerySet[InboxMessage] = super().get_queryset(request)
        match = request.resolver_match
        is_page = match is not None and str(match.url_name).endswith("_change")
        return rows if is_page else rows.defer("body", "headers")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Find by message id, which is a text of the sender's, or by event type."""
        return admin.ModelAdmin.get_search_results(self, request, queryset, search_term)

    def render_change_form(self, request: HttpRequest, context: Any, **kwargs: Any) -> Any:  # type: ignore[override]  # passed on
        """Put the sentence and the payload on the page."""
        message: InboxMessage = kwargs["obj"]
        sees = permitted(request, "view_payload")
        may = self.has_replay_permission(request)
        # An error's text may quote the payload.
        told = message if sees else InboxMessage(**_without_error(message))
        context.update(
            title=message.message_id,
            subtitle=None,
            sentence=in_text(told.explain()),
            sees_payload=sees,
            payload=timeline.pretty(bytes(message.body)) if sees else "",
            headers=message.headers.items() if sees else (),
            can_replay=may and message.is_over and message.has_payload,
            can_try=may and not message.is_over,
        )
        return super().render_change_form(request, context, **kwargs)

    @admin.display(description=_("message id"))
    def short_id(self, message: InboxMessage) -> Any:
        """The id that the sender gave it; its end, where it is long."""
        whole = message.message_id
        shown = f"…{whole[-12:]}" if len(whole) > 16 else whole
        return format_html('<span class="webhooks-id" title="{}">{}</span>', whole, shown)

    @admin.display(description=_("status"))
    def state(self, message: InboxMessage) -> Any:
        """Its status, as a badge."""
        kinds = {"handled": "healthy", "waiting": "trial", "given_up": "unhealthy"}
        return badges.badge(kinds[message.status], message.get_status_display())

    @admin.action(description=_("Have selected messages handled again"), permissions=["replay"])
    def replay_messages(self, request: HttpRequest, queryset: QuerySet[InboxMessage]) -> None:
        """Let workers handle once more what is over."""
        self._do(request, queryset, "inbox.replayed")

    @admin.action(description=_("Handle selected messages now"), permissions=["replay"])
    def try_now(self, request: HttpRequest, queryset: QuerySet[InboxMessage]) -> None:
        """Let workers handle now what waits for a moment."""
        self._do(request, queryset, "inbox.tried_now")

    def _do(self, request: HttpRequest, queryset: QuerySet[InboxMessage], action: str) -> None:
        using = deduplication.database()
        keys = list(queryset.order_by().values_list("pk", flat=True))
        rows = InboxMessage.objects.using(using).filter(pk__in=keys)
        count = rows.replay() if action == "inbox.replayed" else rows.try_now()
        if count:
            audit_log.log(
                action,
                using=using,
                by=request.user.get_username(),
                count=count,
                ids=[str(k) for k in keys[:NAMED]],
            )
            for row in rows[:NAMED]:
                self.log_change(request, row, action)
            wakeups.tell_of_message(keys[0])
        text = ngettext(
            "%(count)d message is handled by a worker now.",
            "%(count)d messages are handled by workers now.",
            count,
        )
        answers.tell(self, request, text, count)
        if left := len(keys) - count:
            text = ngettext(
                "%(count)d was left out: it waits already, is over, or its payload was not kept.",
                "%(count)d were left out: they wait already, are over, or their payloads were not "
                "kept.",
                left,
            )
            self.message_user(request, text % {"count": left}, messages.WARNING)


def _without_error(message: InboxMessage) -> dict[str, Any]:
    names = ("status", "due_at", "finished_at", "attempts_made", "answer")
    return {name: getattr(message, name) for name in names}

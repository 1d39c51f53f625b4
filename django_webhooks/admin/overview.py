"""The overview: whether webhooks arrive, what is in the way, and whether anybody is at work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.utils.timezone import localtime
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from ..models import Delivery, EndpointHealth, Subscription
from ..models.figures.overview_page import OverviewPage
from ..sending import database
from ..sending.database import DatabaseClock
from ..sending.figures import health_report, statistics
from ..sending.figures.statistics import Figures, Range
from . import answers, badges, charts, filters, html, links, scope
from .mixins import RecordAdmin, permitted, sees_hosts
from .times import moment

NAMES = {
    "sweep": _("Sweep (finds what was lost)"),
    "check_health": _("Health checks"),
    "roll_up": _("Counting of these figures"),
}


@admin.register(OverviewPage)
class OverviewAdmin(RecordAdmin):
    """One page, in the place of a list."""

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return whether the user has the permission of the page."""
        return permitted(request, "view_overviewpage")

    def get_urls(self) -> list[Any]:
        """There are no rows, and so no pages of rows."""
        return [one for one in super().get_urls() if str(one.name).endswith("_changelist")]

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """Show it, of all subscriptions or of one, of an hour to a month."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        using, site = database.alias(), self.admin_site
        range_ = statistics.RANGES.get(request.GET.get("range", ""), statistics.RANGES["24h"])
        rows = scope.narrow(request, Subscription.objects.using(using).order_by("name"))
        offered = list(rows.values_list("pk", "name")[: filters.OFFERED])
        chosen = _chosen(rows, request.GET.get("subscription", ""))
        keys = _keys(request, rows, chosen)
        figures = statistics.figures(range_, subscriptions=keys, using=using)
        sees = sees_hosts(request)
        context = {
            "title": _("Overview"),
            "range": range_.name,
            "ranges": [(name, filters.RANGES[name][0]) for name in statistics.RANGES],
            "subscriptions": offered,
            "chosen": chosen,
            "figures": figures,
            "rate": _rate(figures),
            "unresolved": statistics.unresolved(range_, subscriptions=keys, using=using)
            if figures.given_up
            else 0,
            "latency": _times(figures.latency),
            "duration": _times(figures.duration),
            "chart": _chart(figures, range_),
            "retries": _retries(figures, range_),
            "reasons": _reasons(figures),
            "counted_until": moment(figures.counted_until),
            "backlog": (found := statistics.backlog(subscriptions=keys, using=using)),
            "oldest": moment(found.oldest_due),
            "counted": statistics.COUNTED,
            "lives": _lives(using),
            "problems": list(health_report.site(using=using, now=DatabaseClock(using=using)())),
            "unhealthy": [
                _unhealthy(one, site=site, sees=sees)
                for one in (
                    *statistics.unhealthy(subscriptions=keys, using=using),
                    *statistics.disabled(subscriptions=keys, using=using),
                )
            ],
            "limited": [
                (links.link(site, "subscription", one.pk, one.name), html.limit(one))
                for one in statistics.limited(subscriptions=keys, using=using)
            ],
            "stopped": [
                _stopped(one, site=site)
                for one in statistics.stopped(subscriptions=keys, using=using)
            ],
            "is_empty": not offered,
        }
        return answers.page(self, request, "django_webhooks/overview", **context)


def _chosen(rows: Any, text: str) -> Subscription | None:
    key = scope.key_of(text)
    found: Subscription | None = rows.filter(pk=key).first() if key else None
    return found


def _keys(request: HttpRequest, rows: Any, chosen: Subscription | None) -> list[UUID] | None:
    if chosen is not None:
        return [chosen.pk]
    if scope.owners(request) is None:
        return None
    return list(rows.values_list("pk", flat=True))


def _label(part: Any, range_: Range) -> str:
    short = range_.length.days <= 1
    return f"{localtime(part.start):{'%H:%M' if short else '%m-%d'}}"


def _rate(figures: Figures) -> str:
    rate = figures.success_rate
    # Not rounded up: 100 % says that nothing failed.
    return "-" if rate is None else f"{int(rate * 10_000) / 100:g} %"


def _times(times: Sequence[float | None]) -> list[tuple[str, str]]:
    return [(name, written(ms)) for name, ms in zip(("p50", "p95", "p99"), times, strict=True)]


def written(ms: float | None) -> str:
    """Return milliseconds as people say them."""
    if ms is None:
        return "-"
    for size, unit in ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1000, "s")):
        if ms >= size:
            return f"{ms / size:.1f} {unit}"
    return f"{ms:.0f} ms"


def _chart(figures: Figures, range_: Range) -> Any:
    series = [
        charts.Series(
            kind=kind, name=str(name), values=[getattr(part, kind) for part in figures.parts]
        )
        for kind, name in Delivery.Status.choices
        if kind != Delivery.Status.WAITING
    ]
    title = gettext("Deliveries: %(succeeded)d arrived, %(given_up)d given up, %(cancelled)d "
                 "cancelled.") % {
        "succeeded": figures.succeeded,
        "given_up": figures.given_up,
        "cancelled": figures.cancelled,
    }  # fmt: skip
    labels = [_label(part, range_) for part in figures.parts]
    return charts.bars(series, labels=labels, title=title)


def _retries(figures: Figures, range_: Range) -> Any:
    values = [part.retries for part in figures.parts]
    title = gettext("Attempts that failed and are repeated: %(count)d.") % {"count": sum(values)}
    series = [charts.Series(kind="retry", name=gettext("Repeated"), values=values)]
    labels = [_label(part, range_) for part in figures.parts]
    return charts.bars(series, labels=labels, title=title)


def _reasons(figures: Figures) -> str:
    return html.table(
        [_("Reason"), _("Attempts")], ((name or "-", n) for name, n in figures.retries_by_reason)
    )


def _lives(using: str) -> list[dict[str, Any]]:
    return [
        {
            "name": NAMES[one.name],
            "at": moment(one.at),
            "badge": badges.badge("healthy", gettext("running"))
            if one.is_alive
            else badges.badge("unhealthy", gettext("not running")),
            "is_alive": one.is_alive,
        }
        for one in statistics.lives(using=using)
    ]


def _unhealthy(candidate: EndpointHealth, *, site: admin.AdminSite, sees: bool) -> dict[str, Any]:
    return {
        "subscription": links.link(
            site, "subscription", candidate.subscription_id, candidate.subscription.name
        ),
        "endpoint": links.link(
            site, "endpoint", candidate.endpoint_id, html.label(candidate.endpoint, sees=sees)
        ),
        "badge": badges.health_of(candidate.endpoint),
        "since": moment(candidate.endpoint.disabled_at or candidate.failing_since),
    }


def _stopped(subscription: Subscription, *, site: admin.AdminSite) -> dict[str, Any]:
    is_ours = subscription.status == Subscription.Status.DISABLED
    word = subscription.get_status_display()
    return {
        "subscription": links.link(site, "subscription", subscription.pk, subscription.name),
        "badge": badges.badge("unhealthy" if is_ours else "disabled", word),
        "reason": badges.because(subscription.status_reason, subscription.status_by)
        if subscription.status_reason
        else subscription.status_by or "-",
    }

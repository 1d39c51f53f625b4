"""Parts of pages: tables of switches and probes, moments, marks of endpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from django.contrib.admin import AdminSite
from django.template.loader import render_to_string
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from ..models import Delivery, Endpoint, EndpointHealth, Subscription, Switch
from ..policies import reasons
from ..sending.figures import statistics
from . import badges, links
from .times import moment

__all__ = ["deliveries", "label", "mark", "masked", "moment", "reason", "switches", "table"]

#: Probes and switches shown on a page.
SHOWN = 20


def reason(code: str) -> str:
    """Return a reason with its meaning: ``timeout – There was no answer …``."""
    meaning = reasons.help_text(code)
    return f"{code} – {gettext(meaning)}" if meaning else code


def switches(subscription: Subscription, *, show: Callable[[str], str] = str) -> str:
    """Return the last switches of a subscription as a table, with hosts as ``show`` has them."""
    found = Switch.objects.filter(subscription=subscription).order_by("-pk")[:SHOWN]
    headings = [_("When"), _("Cause"), _("From"), _("To"), _("Reason"), _("Note"), _("By")]
    return table(
        headings,
        (
            (
                moment(one.created_at),
                one.get_cause_display(),
                show(one.from_host) or "-",
                show(one.to_host) or "-",
                one.reason,
                one.note,
                one.by,
            )
            for one in found
        ),
    )


def deliveries(subscription: Subscription, *, site: AdminSite, using: str) -> str:
    """Return the last deliveries of a subscription as a table, empty where there are none."""
    found = (
        Delivery.objects.using(using)
        .filter(subscription=subscription)
        .select_related("event")
        .defer("event__body")
        .order_by("-pk")[:10]
    )
    rows = [
        (
            links.link(site, "delivery", one.pk, f"msg_…{one.message_id[-12:]}"),
            one.event.type,
            badges.status(one.status, one.get_status_display()),
            one.reason,
            moment(one.created_at),
        )
        for one in found
    ]
    headings = [_("Message id"), _("Event type"), _("Status"), _("Reason"), _("Recorded")]
    return table(headings, rows) if rows else ""


def limit(subscription: Subscription) -> str:
    """Return the limits in effect, and how many deliveries wait because of them."""
    if not subscription.limits:
        return gettext("No limit.")
    count = statistics.waiting_for_limit(subscription)
    more = "+" if count >= statistics.COUNTED else ""
    return gettext("%(limit)s; waiting because of it: %(count)s.") % {
        "limit": subscription.limit_words,
        "count": f"{count}{more}",
    }


def label(endpoint: Endpoint, *, sees: bool) -> str:
    """Return host and role, the host masked for those who may not see it."""
    return endpoint.label if sees else f"{masked(endpoint.host)} ({endpoint})"


def masked(host: str) -> str:
    """Return enough of a host to tell it from others: its beginning and its end."""
    name, _, port = host.rpartition(":") if host.rpartition(":")[2].isdigit() else (host, "", "")
    end = name.rpartition(".")[2] if "." in name else ""
    shown = f"{name[:2]}…{f'.{end}' if end else ''}"
    return f"{shown}:{port}" if port else shown


def table(headings: Iterable[Any], rows: Iterable[Iterable[Any]]) -> str:
    """Return a table of text."""
    names = list(headings)
    # Each cell knows its heading: where it is narrow, rows become cards.
    context = {"headings": names, "rows": [list(zip(names, row, strict=True)) for row in rows]}
    return render_to_string("admin/django_webhooks/rows.html", context)


def mark(endpoint: Endpoint) -> str:
    health = health_of(endpoint)
    words = [str(_("active"))] if health and health.is_active else []
    return ", ".join(words + ([str(_("pinned"))] if endpoint.is_pinned else []))


def health_of(endpoint: Endpoint) -> EndpointHealth | None:
    return getattr(endpoint, "health", None)

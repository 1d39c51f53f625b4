"""Parts of pages: tables of switches and probes, moments, marks of endpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from django.template.loader import render_to_string
from django.utils.formats import date_format
from django.utils.timezone import localtime
from django.utils.translation import gettext_lazy as _

from ..models import Endpoint, Health, Subscription, Switch

#: Probes and switches shown on a page.
SHOWN = 20


def switches(subscription: Subscription, *, show: Callable[[str], str] = str) -> str:
    """Return the last switches of a subscription as a table, with hosts as ``show`` has them."""
    found = Switch.objects.filter(subscription=subscription).order_by("-pk")[:SHOWN]
    headings = [_("When"), _("Kind"), _("From"), _("To"), _("Reason"), _("By")]
    return table(
        headings,
        (
            (
                moment(one.created_at),
                one.get_cause_display(),
                show(one.from_host) or "-",
                show(one.to_host) or "-",
                one.reason,
                one.by,
            )
            for one in found
        ),
    )


def masked(host: str) -> str:
    """Return enough of a host to tell it from others: its beginning and its end."""
    name, _, port = host.rpartition(":") if host.rpartition(":")[2].isdigit() else (host, "", "")
    end = name.rpartition(".")[2] if "." in name else ""
    shown = f"{name[:2]}…{f'.{end}' if end else ''}"
    return f"{shown}:{port}" if port else shown


def table(headings: Iterable[Any], rows: Iterable[Iterable[Any]]) -> str:
    """Return a table of text."""
    context = {"headings": list(headings), "rows": list(rows)}
    return render_to_string("admin/django_webhooks/rows.html", context)


def moment(when: Any) -> str:
    """Return a moment to the second, in the time of the reader."""
    return date_format(localtime(when), "Y-m-d H:i:s") if when else "-"


def mark(endpoint: Endpoint) -> str:
    health = health_of(endpoint)
    words = [str(_("active"))] if health and health.is_active else []
    return ", ".join(words + ([str(_("pinned"))] if endpoint.is_pinned else []))


def health_of(endpoint: Endpoint) -> Health | None:
    return getattr(endpoint, "health", None)

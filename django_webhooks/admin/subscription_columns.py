"""Columns of subscriptions, and values of their pages that cannot be edited."""

from __future__ import annotations

from datetime import datetime

from django.contrib import admin
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from .. import times
from ..models import Endpoint, SigningKey, Subscription
from . import badges, html
from .mixins import SwitchColumns
from .times import moment_column


class Columns(SwitchColumns):
    """Columns of the list, and values of the page, that are computed."""

    changed = moment_column(_("changed"), "sending_changed_at")
    made = moment_column(_("created"), "created_at")
    unreadable = moment_column(_("cannot be read since"), "unreadable_since")

    @admin.display(description=_("event types"))
    def listens_to(self, subscription: Subscription) -> str:
        """Its patterns."""
        return ", ".join(subscription.event_types)

    @admin.display(description=_("active endpoint"), empty_value="-")
    def active_host(self, subscription: Subscription) -> str:
        """The host that deliveries go to; its path may be a secret."""
        active = (one for one in _endpoints(subscription) if one.health.is_active)
        return next((one.label for one in active), "")

    @admin.display(description=_("active endpoint"), empty_value="-")
    def masked_active(self, subscription: Subscription) -> str:
        """Enough of the host to tell it from others."""
        active = (one for one in _endpoints(subscription) if one.health.is_active)
        return next((f"{html.masked(one.host)} ({one})" for one in active), "")

    @admin.display(description=_("health"), empty_value="-")
    def health(self, subscription: Subscription) -> str:
        """How many of its endpoints are well."""
        if subscription.unreadable_since:
            return badges.badge("unhealthy", str(_("cannot be read")))
        enabled = [one for one in _endpoints(subscription) if one.is_usable]
        if not enabled:
            return ""
        well = sum(one.health.is_callable for one in enabled)
        kind = "healthy" if well == len(enabled) else "trial" if well else "unhealthy"
        counts = {"well": well, "count": len(enabled)}
        return badges.badge(kind, str(_("%(well)d of %(count)d well") % counts))

    @admin.display(description=_("limit in effect"))
    def waits(self, subscription: Subscription) -> str:
        """Its limits, and how many deliveries wait because of them."""
        return html.limit(subscription)

    @admin.display(description=_("owner"), empty_value="-")
    def owner_name(self, subscription: Subscription) -> str:
        """The model and the key of its owner."""
        return f"{subscription.owner_type} {subscription.owner_id}".strip()

    @admin.display(description=_("signing keys"))
    def keys(self, subscription: Subscription) -> str:
        """Its keys, as much as tells them apart."""
        now = times.now()
        return html.table(
            [_("Kind"), _("Key"), _("Created"), _("By"), _("Signs")],
            (
                (
                    one.kind if one.is_readable else "-",
                    one.masked,
                    html.moment(one.created_at),
                    one.created_by,
                    _signs(one, now),
                )
                for one in subscription.signing_keys.all()
            ),
        )


def _signs(key: SigningKey, now: datetime) -> str:
    if key.expires_at is None:
        return str(_("until it is rotated"))
    word = _("until %(time)s") if key.signs_at(now) else _("no more since %(time)s")
    return format_html(str(word) % {"time": "{}"}, html.moment(key.expires_at))


def _endpoints(subscription: Subscription) -> list[Endpoint]:
    return [one for one in subscription.endpoints.all() if hasattr(one, "health")]

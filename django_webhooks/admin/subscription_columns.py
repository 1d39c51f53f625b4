"""What the pages of subscriptions say of one: its columns and what cannot be edited."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.contrib import admin
from django.utils import timezone
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from ..models import Endpoint, SigningKey, Subscription
from . import badges, parts


class Columns:
    """Columns of the list, and values of the page, that are computed."""

    @admin.display(description=_("event types"))
    def listens_to(self, subscription: Subscription) -> str:
        """Its patterns."""
        return ", ".join(subscription.event_types)

    @admin.display(description=_("active endpoint"), empty_value="-")
    def active_host(self, subscription: Subscription) -> str:
        """The host that deliveries go to; its path may be a secret."""
        active = (one for one in _doors(subscription) if one.health.is_active)
        return next((one.label for one in active), "")

    @admin.display(description=_("active endpoint"), empty_value="-")
    def masked_active(self, subscription: Subscription) -> str:
        """Enough of the host to tell it from others."""
        active = (one for one in _doors(subscription) if one.health.is_active)
        return next((f"{parts.masked(one.host)} ({one})" for one in active), "")

    @admin.display(description=_("last switches"))
    def masked_switches(self, subscription: Subscription) -> str:
        """How its active endpoint changed."""
        return parts.switches(subscription, show=parts.masked)

    @admin.display(description=_("health"), empty_value="-")
    def health(self, subscription: Subscription) -> str:
        """How many of its endpoints are well."""
        if subscription.unreadable_since:
            return badges.badge("unhealthy", str(_("cannot be read")))
        doors = [one for one in _doors(subscription) if one.is_usable]
        if not doors:
            return ""
        well = sum(one.health.is_callable for one in doors)
        kind = "healthy" if well == len(doors) else "trial" if well else "unhealthy"
        counts = {"well": well, "count": len(doors)}
        return badges.badge(kind, str(_("%(well)d of %(count)d well") % counts))

    @admin.display(description=_("last switches"))
    def recent_switches(self, subscription: Subscription) -> str:
        """How its active endpoint changed."""
        return parts.switches(subscription)

    @admin.display(description=_("limit in effect"))
    def waits(self, subscription: Subscription) -> str:
        """Its limits, and how many deliveries wait because of them."""
        return parts.limit(subscription)

    @admin.display(description=_("changed"))
    def changed(self, subscription: Subscription) -> Any:
        """When the status or the endpoints last changed."""
        return parts.moment(subscription.flow_changed_at)

    @admin.display(description=_("created"))
    def made(self, subscription: Subscription) -> Any:
        """When it was made."""
        return parts.moment(subscription.created_at)

    @admin.display(description=_("cannot be read since"))
    def unreadable(self, subscription: Subscription) -> Any:
        """Since when its URLs or keys do not open."""
        return parts.moment(subscription.unreadable_since)

    @admin.display(description=_("owner"), empty_value="-")
    def owner_name(self, subscription: Subscription) -> str:
        """Whose it is."""
        return f"{subscription.owner_type} {subscription.owner_id}".strip()

    @admin.display(description=_("signing keys"))
    def keys(self, subscription: Subscription) -> str:
        """Its keys, as much as tells them apart."""
        now = timezone.now()
        return parts.table(
            [_("Kind"), _("Key"), _("Created"), _("By"), _("Signs")],
            (
                (
                    one.kind if one.is_readable else "-",
                    one.masked,
                    parts.moment(one.created_at),
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
    return format_html(str(word) % {"time": "{}"}, parts.moment(key.expires_at))


def _doors(subscription: Subscription) -> list[Endpoint]:
    return [one for one in subscription.endpoints.all() if hasattr(one, "health")]

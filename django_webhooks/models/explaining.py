"""What people are told of a delivery: what became of it, or why it waits and until when."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, cast
from uuid import UUID

from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext, ngettext

from ..policies.ordering import EVERYTHING
from .delivery import Delivery
from .flow import COUNTED, Flow
from .subscription import Subscription

if TYPE_CHECKING:
    from .delivery import DeliveryQuerySet


def explain(delivery: Delivery, now: datetime) -> str:
    """Return in one sentence what became of a delivery, or why it waits and until when."""
    match delivery.status:
        case Delivery.Status.SUCCEEDED:
            return gettext("Arrived at %(time)s on attempt %(number)d.") % {
                "time": _moment(delivery.finished_at),
                "number": delivery.attempts_made,
            }
        case Delivery.Status.GIVEN_UP if delivery.reason == "loop":
            return gettext(
                "Not sent, because %(number)d webhooks led to it, each causing the next; it "
                "can be replayed."
            ) % {"number": delivery.event.hops}
        case Delivery.Status.GIVEN_UP:
            return gettext(
                "Given up at %(time)s on attempt %(number)d (%(reason)s); it can be replayed."
            ) % {
                "time": _moment(delivery.finished_at),
                "number": delivery.attempts_made,
                "reason": delivery.reason,
            }
        case Delivery.Status.CANCELLED:
            return gettext("Cancelled at %(time)s (%(reason)s).") % {
                "time": _moment(delivery.finished_at),
                "reason": delivery.reason or "-",
            }
    return _explain_waiting(delivery, now)


def _explain_waiting(delivery: Delivery, now: datetime) -> str:
    subscription = delivery.subscription
    if subscription is not None and not subscription.is_active:
        return gettext("Waits because its subscription is %(status)s; resume it to send.") % {
            "status": str(subscription.get_status_display()).lower()
        }
    if delivery.lease_token is not None and delivery.due_at is not None and delivery.due_at > now:
        return gettext("A worker is sending it, or returns it at %(time)s at the latest.") % {
            "time": _moment(delivery.due_at)
        }
    if (first := delivery.waits_for()) is not None:
        return _explain_turn(delivery, first)
    if delivery.due_at is None:
        return _explain_held(delivery, now)
    is_fresh, is_early = not delivery.attempts_made, delivery.due_at > now
    if is_fresh and is_early and subscription and subscription.limits:
        return gettext(
            "Waits because of the limit of its subscription (%(limit)s); its turn is at %(time)s."
        ) % {"limit": subscription.limit_words, "time": _moment(delivery.due_at)}
    if is_fresh:
        return gettext("Waits for a worker since %(time)s.") % {"time": _moment(delivery.due_at)}
    return gettext("Attempt %(number)d failed (%(reason)s); the next one is due at %(time)s.") % {
        "number": delivery.attempts_made,
        "reason": delivery.reason,
        "time": _moment(delivery.due_at),
    }


def _explain_turn(delivery: Delivery, first: UUID) -> str:
    if delivery.ordering_key == EVERYTHING:
        text = gettext(
            "Waits for its turn: delivery %(first)s of the same subscription goes first."
        )
    else:
        text = gettext(
            "Waits for its turn: delivery %(first)s with the same ordering key goes first."
        )
    return text % {"first": first}


def _explain_held(delivery: Delivery, now: datetime) -> str:
    if delivery.subscription is None:
        return gettext("Waits without a subscription; cancel it.")
    if delivery.subscription.unreadable_since is not None:
        return gettext(
            "Waits since %(since)s because the URL or a key of its subscription cannot be "
            "decrypted; add the missing key to WEBHOOKS_ENCRYPTION_KEYS again."
        ) % {"since": _moment(delivery.subscription.unreadable_since)}
    doors = delivery.subscription.doors.select_related("endpoint")
    usable = [door for door in doors if door.endpoint.is_usable]
    if not usable:
        return gettext("Waits because its subscription has no endpoint, or all are disabled.")
    if any(door.flows for door in usable) and delivery.subscription.limits:
        return _explain_limit(delivery, delivery.subscription, now)
    if any(door.is_active for door in usable):
        return gettext("Waits because older deliveries go first after an outage.")
    since = _moment(max(door.failing_since or door.since for door in usable))
    if any(door.state == "trial" for door in usable):
        return gettext(
            "Waits because all endpoints of its subscription have failed since %(since)s; "
            "one delivery at a time is tried now."
        ) % {"since": since}
    return gettext(
        "Waits because all endpoints of its subscription have failed since %(since)s; "
        "one delivery is tried at %(time)s at the earliest."
    ) % {
        "since": since,
        "time": _moment(min(door.hold_until or door.since for door in usable)),
    }


def _explain_limit(delivery: Delivery, subscription: Subscription, now: datetime) -> str:
    older = cast("DeliveryQuerySet", subscription.deliveries.all()).held()
    count = older.filter(pk__lt=delivery.pk)[:COUNTED].count()
    flow = Flow.objects.filter(pk=subscription.pk).first() or Flow(subscription=subscription)
    values = {"limit": subscription.limit_words, "count": count}
    moment = flow.moment_behind(count, now=now)
    if moment is None:
        text = ngettext(
            "Waits because of the limit of its subscription (%(limit)s); %(count)d other "
            "goes first.",
            "Waits because of the limit of its subscription (%(limit)s); %(count)d others "
            "go first.",
            count,
        )
        return text % values
    text = ngettext(
        "Waits because of the limit of its subscription (%(limit)s); %(count)d other goes "
        "first, and its turn is at about %(time)s.",
        "Waits because of the limit of its subscription (%(limit)s); %(count)d others go "
        "first, and its turn is at about %(time)s.",
        count,
    )
    return text % {**values, "time": _moment(moment)}


def _moment(moment: datetime | None) -> str:
    return date_format(timezone.localtime(moment), "Y-m-d H:i:s") if moment else "-"

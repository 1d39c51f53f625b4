"""Sentences for people: what became of a delivery, or why it waits and until when."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, cast
from uuid import UUID

from django.utils.translation import gettext, ngettext

from .. import times
from ..policies.ordering import EVERYTHING
from ..policies.reasons import Reason
from .figures.heartbeat import LATE, Heartbeat
from .rate_limit_state import COUNTED, RateLimitState
from .subscription import Subscription

if TYPE_CHECKING:
    from .attempt import Attempt
    from .delivery import Delivery, DeliveryQuerySet


def explain(delivery: Delivery, now: datetime, *, shows_hosts: bool = True) -> str:
    """Return in one sentence what became of a delivery, or why it waits and until when.

    A second sentence says what to do where it was blocked.
    """
    told = _explain(delivery, now)
    blocked = _last_blocked(delivery)
    if blocked is None:
        return told
    if not shows_hosts:
        return f"{told} {gettext(Reason.BLOCKED.help_text)}"
    cure = gettext("Blocked at %(host)s: %(detail)s") % {
        "host": blocked.endpoint_host,
        "detail": blocked.detail,
    }
    return f"{told} {cure}"


def _last_blocked(delivery: Delivery) -> Attempt | None:
    """Return the attempt that says what blocks a delivery, where something does."""
    attempts = delivery.attempts.model.objects.using(delivery._state.db)
    if delivery.status in (delivery.Status.SUCCEEDED, delivery.Status.CANCELLED):
        return None
    if delivery.reason == Reason.BLOCKED:
        return attempts.filter(delivery=delivery, reason=Reason.BLOCKED).first()
    if delivery.is_over or delivery.due_at is not None or delivery.subscription is None:
        return None
    # Others were blocked, which is why its endpoints count as failed.
    candidates = delivery.subscription.endpoint_health.filter(reason=Reason.BLOCKED)
    keys = list(candidates.values_list("endpoint_id", flat=True))
    return attempts.filter(endpoint__in=keys, reason=Reason.BLOCKED).first() if keys else None


def _explain(delivery: Delivery, now: datetime) -> str:
    match delivery.status:
        case delivery.Status.SUCCEEDED:
            return gettext("Arrived at %(time)s on attempt %(number)d.") % {
                "time": times.written(delivery.finished_at),
                "number": delivery.attempts_made,
            }
        case delivery.Status.GIVEN_UP if (other := delivery.better_sibling()) is not None:
            return _explain_replayed(delivery, other)
        case delivery.Status.GIVEN_UP if delivery.reason == Reason.LOOP:
            return gettext(
                "Not sent, because %(number)d webhooks led to it, each causing the next; it "
                "can be replayed."
            ) % {"number": delivery.event.hops}
        case delivery.Status.GIVEN_UP:
            return gettext(
                "Given up at %(time)s on attempt %(number)d (%(reason)s); it can be replayed."
            ) % {
                "time": times.written(delivery.finished_at),
                "number": delivery.attempts_made,
                "reason": delivery.reason,
            }
        case delivery.Status.CANCELLED if delivery.cancelled_by:
            return gettext("Cancelled at %(time)s by %(who)s.") % {
                "time": times.written(delivery.finished_at),
                "who": delivery.cancelled_by,
            }
        case delivery.Status.CANCELLED:
            return gettext("Cancelled at %(time)s (%(reason)s).") % {
                "time": times.written(delivery.finished_at),
                "reason": delivery.reason or "-",
            }
    return _explain_waiting(delivery, now)


def _explain_replayed(delivery: Delivery, other: Delivery) -> str:
    values = {
        "time": times.written(delivery.finished_at),
        "number": delivery.attempts_made,
        "reason": delivery.reason,
        "arrived": times.written(other.finished_at),
    }
    if not other.is_over:
        text = gettext(
            "Given up at %(time)s on attempt %(number)d (%(reason)s); it is replayed, and the "
            "replay waits."
        )
    elif other.replay > delivery.replay:
        text = gettext(
            "Given up at %(time)s on attempt %(number)d (%(reason)s); replayed, and arrived at "
            "%(arrived)s."
        )
    else:
        text = gettext(
            "Given up at %(time)s on attempt %(number)d (%(reason)s); its event had arrived at "
            "%(arrived)s."
        )
    return text % values


def _explain_waiting(delivery: Delivery, now: datetime) -> str:
    subscription = delivery.subscription
    if subscription is not None and not subscription.is_active:
        return gettext("Waits because its subscription is %(status)s; resume it to send.") % {
            "status": str(subscription.get_status_display()).lower()
        }
    if subscription is not None and subscription.unreadable_since is not None:
        return gettext(
            "Waits since %(since)s because the URL or a key of its subscription cannot be "
            "decrypted; add the missing key to WEBHOOKS_ENCRYPTION_KEYS again."
        ) % {"since": times.written(subscription.unreadable_since)}
    if delivery.lease_token is not None and delivery.due_at is not None and delivery.due_at > now:
        return gettext("A worker is sending it, or returns it at %(time)s at the latest.") % {
            "time": times.written(delivery.due_at)
        }
    if (first := delivery.waits_for()) is not None:
        return _explain_turn(delivery, first)
    if delivery.due_at is None:
        return _explain_held(delivery, now)
    is_fresh, is_early = not delivery.attempts_made, delivery.due_at > now
    if is_fresh and is_early and subscription and subscription.limits:
        return gettext(
            "Waits because of the limit of its subscription (%(limit)s); its turn is at %(time)s."
        ) % {"limit": subscription.limit_words, "time": times.written(delivery.due_at)}
    if is_fresh and _lacks_workers(delivery, now):
        return gettext(
            "Waits for a worker since %(time)s, and none is at work: start one that consumes the "
            "queue of the webhooks."
        ) % {"time": times.written(delivery.due_at)}
    if is_fresh:
        return gettext("Waits for a worker since %(time)s.") % {
            "time": times.written(delivery.due_at)
        }
    return gettext("Attempt %(number)d failed (%(reason)s); the next one is due at %(time)s.") % {
        "number": delivery.attempts_made,
        "reason": delivery.reason,
        "time": times.written(delivery.due_at),
    }


def _lacks_workers(delivery: Delivery, now: datetime) -> bool:
    is_late = delivery.due_at is not None and delivery.due_at < now - LATE
    return is_late and not Heartbeat.objects.using(delivery._state.db).is_delivering(now)


def _explain_turn(delivery: Delivery, first: UUID) -> str:
    if delivery.partition == EVERYTHING:
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
    candidates = delivery.subscription.endpoint_health.select_related("endpoint")
    usable = [candidate for candidate in candidates if candidate.endpoint.is_usable]
    if not usable:
        return gettext("Waits because its subscription has no endpoint, or all are disabled.")
    if any(candidate.flows for candidate in usable) and delivery.subscription.limits:
        return _explain_limit(delivery, delivery.subscription, now)
    if any(candidate.is_active for candidate in usable):
        return gettext("Waits because older deliveries go first after an outage.")
    since = times.written(max(candidate.failing_since or candidate.since for candidate in usable))
    if any(candidate.state == "trial" for candidate in usable):
        return gettext(
            "Waits because all endpoints of its subscription have failed since %(since)s; "
            "one delivery at a time is tried now."
        ) % {"since": since}
    return gettext(
        "Waits because all endpoints of its subscription have failed since %(since)s; "
        "one delivery is tried at %(time)s at the earliest."
    ) % {
        "since": since,
        "time": times.written(min(candidate.hold_until or candidate.since for candidate in usable)),
    }


def _explain_limit(delivery: Delivery, subscription: Subscription, now: datetime) -> str:
    older = cast("DeliveryQuerySet", subscription.deliveries.all()).held()
    count = older.filter(pk__lt=delivery.pk)[:COUNTED].count()
    limit_state = RateLimitState.objects.filter(pk=subscription.pk).first() or RateLimitState(
        subscription=subscription
    )
    values = {"limit": subscription.limit_words, "count": count}
    moment = limit_state.moment_behind(count, now=now)
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
    return text % {**values, "time": times.written(moment)}

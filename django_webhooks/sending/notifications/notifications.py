"""Notifications: people and programs are told of changes, each once, bundled.

Programs are told by operational events, ``webhooks.…``, that other subscriptions may listen to;
people by mail (:mod:`.mails`). A change is read off the rows, where that can be seen
there, and was noted with it where it cannot: a crash forgets nothing.
"""

from __future__ import annotations

import time
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Case, CharField, F, Q, QuerySet, Value, When

from ... import namespaces, process_state, signals, times
from ...commits import send_after_commit
from ...models import Endpoint, EndpointHealth, Subscription, Switch
from ...models.figures.heartbeat import Heartbeat
from ...models.notification import Notification
from ...namespaces import Namespace
from .. import database
from ..database import DatabaseClock
from ..fan_out import operational
from ..figures import health_report
from . import mails

#: Rows told of by one call.
BATCH = 200
#: The heartbeat that says who tells now, and until when at the longest.
TURN, LONGEST = "notify", timedelta(minutes=5)
#: The heartbeat that says when the site was last watched, and how often that is done.
WATCH, WATCHED_EVERY_SECONDS = "watch", 30.0
#: What an endpoint is told to be that is disabled, whatever its health.
DISABLED = "disabled"
Kind = Notification.Kind
#: When this process looked last whether anybody watches.
_looked_at: dict[Namespace, float] = process_state.remember({}, forget=dict.clear)


def are_pending(*, using: str | None = None, now: datetime | None = None) -> bool:
    """Say whether there is anything to tell."""
    using = using or database.alias()
    now = now or times.now()
    rows = Notification.objects.using(using)
    return (
        _unnotified_endpoints(using).exists()
        or _untold_switches(using).exists()
        or _untold_reading(using).exists()
        or rows.untold().exists()
        or mails.are_pending(using=using, now=now)
    )


def tell(*, using: str | None = None, now: datetime | None = None) -> int:
    """Tell what is to be told, and return how many events and mails that were.

    One process tells at a time. A mail that fails is sent by a later call; its error is raised when
    all the others are sent.
    """
    using = using or database.alias()
    now = now or times.now()
    if not _take_turn(now, using=using):
        return 0
    try:
        _notice(now, using=using)
        told = sum(
            _emit(one, now=now, using=using)
            for one in Notification.objects.using(using)
            .untold()
            .select_related("subscription")[:BATCH]
        )
        return told + mails.send(now=now, using=using)
    finally:
        Heartbeat.objects.using(using).filter(pk=TURN).update(reached=None)


def watch(*, using: str | None = None, now: datetime | None = None) -> int:
    """Note what is not well with the site, and what is again; return how many changes that were.

    Each is noted once until it is well. Workers do it with each round of health checks, and
    ``webhooks_health --notify`` where no worker runs.
    """
    using = using or database.alias()
    now = now or times.now()
    found = {
        one.subject: one
        for one in health_report.site(using=using, now=now)
        if one.kind is not health_report.Kind.AUDIT
    }
    rows = Notification.objects.using(using)
    changes = 0
    with transaction.atomic(using=using):
        # One after the other.
        Heartbeat.objects.using(using).get_or_create(pk=TURN)
        Heartbeat.objects.using(using).select_for_update().get(pk=TURN)
        noted = rows.filter(kind=Kind.SITE_DOWN).order_by()
        was_noted = noted.values_list("subject", flat=True).distinct()
        for subject in sorted({*found, *was_noted}):
            last = rows.filter(subject=subject).order_by("-pk").first()
            was_down = last is not None and last.kind == Kind.SITE_DOWN
            problem = found.get(subject)
            if (problem is not None) == was_down:
                continue
            detail = dict(last.detail) if last is not None and problem is None else {}
            if problem is not None:
                detail = {
                    "problem": problem.kind.value,
                    "sentence": problem.sentence,
                    "advice": problem.advice,
                }
            kind = Kind.SITE_UP if problem is None else Kind.SITE_DOWN
            rows.create(kind=kind, subject=subject, detail=detail, created_at=now)
            signal = signals.site_well if problem is None else signals.site_not_well
            send_after_commit(
                signal, sender=Notification, using=using, subject=subject, detail=detail
            )
            changes += 1
    return changes


def watch_if_due(
    *, periods: int = 1, using: str | None = None, now: datetime | None = None
) -> bool:
    """Watch, unless that was done within so many periods of watching; say whether it was."""
    using = using or database.alias()
    after = timedelta(seconds=periods * WATCHED_EVERY_SECONDS)
    now = now or DatabaseClock(using=using)()
    rows = Heartbeat.objects.using(using)
    # A moment ahead was written before a clock was set back.
    due = Q(at__lte=now - after) | Q(at__gt=now + after)
    if not rows.filter(due, pk=WATCH).update(at=now):
        made = rows.bulk_create([Heartbeat(name=WATCH, at=now)], ignore_conflicts=True)
        if rows.filter(pk=WATCH).exclude(at=now).exists() or not made:
            return False
    watch(using=using, now=now)
    return True


def stand_in(*, using: str | None = None) -> None:
    """Watch and tell where nobody runs the health checks, which do so: a worker may outlive beat.

    Asked after each run of deliveries; a process looks twice a minute.
    """
    now, here = time.monotonic(), namespaces.of(using or database.alias())
    if now - _looked_at.get(here, float("-inf")) < WATCHED_EVERY_SECONDS:
        return
    _looked_at[here] = now
    if watch_if_due(periods=3, using=using):
        tell(using=using)


def _take_turn(now: datetime, *, using: str) -> bool:
    """Say whether this process tells: none else does, or it has died meanwhile."""
    rows = Heartbeat.objects.using(using)
    rows.get_or_create(pk=TURN)
    # A turn that ends far ahead was written before a clock was set back.
    free = Q(reached__isnull=True) | Q(reached__lte=now) | Q(reached__gt=now + LONGEST)
    return bool(rows.filter(free, pk=TURN).update(reached=now + LONGEST, at=now))


def _notice(now: datetime, *, using: str) -> None:
    """Make notifications of the changes that the rows show."""
    for candidate in _unnotified_endpoints(using).select_related("endpoint")[:BATCH]:
        _notice_endpoint(candidate, now=now, using=using)
    for switch in _untold_switches(using)[:BATCH]:
        _notice_switch(switch, now=now, using=using)
    for subscription in _untold_reading(using)[:BATCH]:
        _notice_reading(subscription, now=now, using=using)


def _unnotified_endpoints(using: str) -> QuerySet[EndpointHealth]:
    now_is = Case(
        When(endpoint__disabled_at__isnull=False, then=Value(DISABLED)),
        When(state=EndpointHealth.State.HEALTHY, then=Value(EndpointHealth.State.HEALTHY.value)),
        default=Value(EndpointHealth.State.UNHEALTHY.value),
        output_field=CharField(),
    )
    return (
        EndpointHealth.objects.using(using)
        .annotate(now_is=now_is)
        .exclude(notified_state=F("now_is"))
    )


def _untold_switches(using: str) -> QuerySet[Switch]:
    return Switch.objects.using(using).filter(notified_at__isnull=True).order_by("pk")


def _untold_reading(using: str) -> QuerySet[Subscription]:
    rows = Subscription.objects.using(using)
    became = Q(unreadable_since__isnull=False, is_notified_unreadable=False)
    return rows.filter(became | Q(unreadable_since__isnull=True, is_notified_unreadable=True))


def _notice_endpoint(candidate: EndpointHealth, *, now: datetime, using: str) -> None:
    now_is = str(candidate.now_is)  # type: ignore[attr-defined]  # annotated
    kinds = {
        DISABLED: Kind.ENDPOINT_DISABLED,
        EndpointHealth.State.HEALTHY.value: Kind.RECOVERED,
        EndpointHealth.State.UNHEALTHY.value: Kind.UNHEALTHY,
    }
    endpoint = candidate.endpoint
    detail = {
        "endpoint": str(candidate.pk),
        "host": endpoint.host,
        "reason": endpoint.disabled_reason if now_is == DISABLED else candidate.reason,
    }
    rows = EndpointHealth.objects.using(using).filter(
        pk=candidate.pk, notified_state=candidate.notified_state
    )
    with transaction.atomic(using=using):
        if not rows.update(notified_state=now_is):
            return
        if candidate.notified_state == DISABLED and now_is == EndpointHealth.State.HEALTHY:
            return  # It was enabled by hand: who did it knows.
        Notification.objects.using(using).create(
            kind=kinds[now_is],
            subscription_id=candidate.subscription_id,
            detail=detail,
            created_at=now,
        )


def _notice_switch(switch: Switch, *, now: datetime, using: str) -> None:
    detail = {
        "from": switch.from_host,
        "to": switch.to_host,
        "cause": switch.cause,
        "reason": switch.reason,
        "at": switch.created_at.isoformat(),
    }
    with transaction.atomic(using=using):
        rows = Switch.objects.using(using).filter(pk=switch.pk, notified_at__isnull=True)
        if rows.update(notified_at=now):
            Notification.objects.using(using).create(
                kind=Kind.SWITCHED,
                subscription_id=switch.subscription_id,
                detail=detail,
                created_at=now,
            )


def _notice_reading(subscription: Subscription, *, now: datetime, using: str) -> None:
    is_unreadable = subscription.unreadable_since is not None
    rows = Subscription.objects.using(using).filter(
        pk=subscription.pk, is_notified_unreadable=not is_unreadable
    )
    with transaction.atomic(using=using):
        if not rows.update(is_notified_unreadable=is_unreadable):
            return
        kind = Kind.UNREADABLE if is_unreadable else Kind.READABLE
        Notification.objects.using(using).create(
            kind=kind, subscription_id=subscription.pk, created_at=now
        )
        signal = signals.subscription_unreadable if is_unreadable else signals.subscription_readable
        send_after_commit(signal, sender=Notification, using=using, subscription=subscription)


def _emit(one: Notification, *, now: datetime, using: str) -> int:
    """Tell programs of a notification; from then on nothing is added to it."""
    rows = Notification.objects.using(using)
    with transaction.atomic(using=using):
        # Deliveries that were added meanwhile are told of as well.
        locked = rows.select_for_update().filter(pk=one.pk, notified_at__isnull=True).first()
        if locked is None:
            return 0
        rows.filter(pk=one.pk).update(notified_at=now, open_key=None)
        about: list[str] = []
        if key := locked.detail.get("endpoint"):
            about = [row.url for row in Endpoint.objects.using(using).filter(pk=key)]
        return operational.emit(
            operational.TYPES[Kind(locked.kind)],
            one.subscription,
            locked.said(),
            about=about,
            using=using,
        )

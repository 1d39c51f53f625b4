"""Notices: tell people and programs of outages, each once.

Programs are told by operational events, ``webhooks.…``, that other subscriptions may listen to;
people by mail. What is to be told is read off the rows, so that a crash forgets nothing.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial

from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet
from django.utils import timezone

from ..conf import settings
from ..models import Health, Subscription, Switch
from . import mails, operational, outbox

#: Rows told of by one call.
BATCH = 200


def are_pending(*, using: str | None = None, now: datetime | None = None) -> bool:
    """Say whether there is anything to tell."""
    using = using or outbox.database()
    now = now or timezone.now()
    if _untold_doors(using).exists() or _untold_switches(using).exists():
        return True
    return _untold_trouble(using, now).exists() or _untold_stages(using).exists()


def tell(*, using: str | None = None, now: datetime | None = None) -> int:
    """Tell what is to be told, and return how many events and mails that were.

    A mail that fails is sent by the next call; its error is raised when all the others are sent.
    """
    using = using or outbox.database()
    now = now or timezone.now()
    told = 0
    for door in _untold_doors(using).select_related("endpoint", "subscription")[:BATCH]:
        told += _tell_door(door, using=using)
    for switch in _untold_switches(using).select_related("subscription")[:BATCH]:
        told += _tell_switch(switch, now=now, using=using)
    unsent = [
        partial(mails.tell_of_stage, subscription, using=using)
        for subscription in _untold_stages(using)[:BATCH]
    ]
    _forget_told(using, now)
    unsent += [
        partial(mails.tell_of_trouble, subscription, now=now, using=using)
        for subscription in _untold_trouble(using, now)[:BATCH]
    ]
    failures = []
    for mail in unsent:
        try:
            told += mail()
        except Exception as error:  # An address that is refused must not silence the others.
            failures.append(error)
    if failures:
        raise failures[0]
    return told


def _untold_doors(using: str) -> QuerySet[Health]:
    rows = Health.objects.using(using)
    fell = ~Q(state=Health.State.HEALTHY) & Q(told_state=Health.State.HEALTHY)
    rose = Q(state=Health.State.HEALTHY) & ~Q(told_state=Health.State.HEALTHY)
    return rows.filter(fell | rose)


def _untold_switches(using: str) -> QuerySet[Switch]:
    return Switch.objects.using(using).filter(told_at__isnull=True).order_by("pk")


def _untold_stages(using: str) -> QuerySet[Subscription]:
    return Subscription.objects.using(using).filter(told_stage__lt=F("down_warnings"))


def _untold_trouble(using: str, now: datetime) -> QuerySet[Subscription]:
    """Subscriptions in an outage that nobody was mailed of."""
    if not settings.WEBHOOKS_NOTIFY:
        return Subscription.objects.none()
    failing = Health.objects.using(using).failing().filter(subscription_id=OuterRef("pk"))
    return (
        Subscription.objects.using(using)
        .active()
        .filter(Exists(failing), told_down_at__isnull=True)
    )


def _forget_told(using: str, now: datetime) -> None:
    """Let the next outage be mailed, where this one is over and was not mailed just now."""
    failing = Health.objects.using(using).failing().filter(subscription_id=OuterRef("pk"))
    past = now - timedelta(seconds=settings.WEBHOOKS_NOTIFY_INTERVAL)
    over = Subscription.objects.using(using).filter(~Exists(failing), told_down_at__lte=past)
    keys = list(over.values_list("pk", flat=True)[:BATCH])
    if keys:
        Subscription.objects.using(using).filter(pk__in=keys).update(told_down_at=None)


def _tell_door(door: Health, *, using: str) -> int:
    rows = Health.objects.using(using).filter(pk=door.pk, told_state=door.told_state)
    is_well = door.state == Health.State.HEALTHY
    kind = operational.RECOVERED if is_well else operational.UNHEALTHY
    data = {"endpoint": str(door.pk), "host": door.endpoint.host, "reason": door.reason}
    with transaction.atomic(using=using):
        if not rows.update(told_state=door.state):
            return 0
        return operational.emit(
            kind, door.subscription, data, about=[door.endpoint.url], using=using
        )


def _tell_switch(switch: Switch, *, now: datetime, using: str) -> int:
    rows = Switch.objects.using(using).filter(pk=switch.pk, told_at__isnull=True)
    data = {
        "from": switch.from_host,
        "to": switch.to_host,
        "cause": switch.cause,
        "reason": switch.reason,
        "at": switch.created_at,
    }
    with transaction.atomic(using=using):
        if not rows.update(told_at=now):
            return 0
        return operational.emit(operational.SWITCHED, switch.subscription, data, using=using)

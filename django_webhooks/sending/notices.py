"""Notices: tell people and programs of outages, each once.

Programs are told by operational events, ``webhooks.…``, that other subscriptions may listen to;
people by mail. What is to be told is read off the rows, so that a crash forgets nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from django.core.mail import send_mail
from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet
from django.utils import timezone
from django.utils.module_loading import import_string
from django.utils.translation import gettext

from .. import catalog, signals
from ..conf import settings
from ..models import Endpoint, Health, Subscription, Switch
from . import outbox
from .outbox import Draft

logger = logging.getLogger(__name__)

#: Shares of WEBHOOKS_DISABLE_AFTER at which the owner is warned; at the last one it is disabled.
STAGES = (0.5, 0.9, 1.0)
#: Rows told of by one call.
BATCH = 200

UNHEALTHY = catalog.declare(
    "webhooks.endpoint.unhealthy", description="An endpoint failed and is not called any more."
)
RECOVERED = catalog.declare(
    "webhooks.endpoint.recovered", description="An endpoint that failed takes deliveries again."
)
SWITCHED = catalog.declare(
    "webhooks.subscription.switched",
    description="The active endpoint of a subscription is another one.",
)
FAILING = catalog.declare(
    "webhooks.subscription.failing",
    description="All endpoints of a subscription have failed for long; it will be disabled.",
)
DISABLED = catalog.declare(
    "webhooks.subscription.disabled",
    description="A subscription is disabled, because all its endpoints failed for too long.",
)


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
    mails = [
        partial(_mail_stage, subscription, using=using)
        for subscription in _untold_stages(using)[:BATCH]
    ]
    _forget_told(using, now)
    mails += [
        partial(_mail_trouble, subscription, now=now, using=using)
        for subscription in _untold_trouble(using, now)[:BATCH]
    ]
    failures = []
    for mail in mails:
        try:
            told += mail()
        except Exception as error:  # An address that is refused must not silence the others.
            failures.append(error)
    if failures:
        raise failures[0]
    return told


def disable_long_down(*, using: str | None = None, now: datetime | None = None) -> int:
    """Disable subscriptions all of whose endpoints failed for too long; return how many.

    On the way there their owners are warned, at a half and at nine tenths of the time.
    """
    using = using or outbox.database()
    now = now or timezone.now()
    doors = Health.objects.using(using).filter(
        subscription_id=OuterRef("pk"), endpoint__disabled_at__isnull=True
    )
    down = (
        Subscription.objects.using(using)
        .active()
        .filter(Exists(doors), ~Exists(doors.filter(failing_since__isnull=True)))
    )
    # Who recovered is warned anew the next time.
    Subscription.objects.using(using).active().filter(
        ~Exists(doors) | Exists(doors.filter(failing_since__isnull=True)), down_warnings__gt=0
    ).update(down_warnings=0, told_stage=0)
    disabled = 0
    for subscription in down.prefetch_related("doors__endpoint"):
        usable = (door for door in subscription.doors.all() if door.endpoint.is_usable)
        since = max(door.failing_since for door in usable if door.failing_since)
        share = (now - since).total_seconds() / subscription.disabled_after
        stage = sum(share >= one for one in STAGES)
        if stage > subscription.down_warnings:
            disabled += _reach(subscription, stage, since=since, using=using)
    return disabled


def _reach(subscription: Subscription, stage: int, *, since: datetime, using: str) -> int:
    rows = Subscription.objects.using(using).active().filter(pk=subscription.pk)
    is_over = stage == len(STAGES)
    with transaction.atomic(using=using):
        if not rows.filter(down_warnings__lt=stage).update(down_warnings=stage):
            return 0  # Another worker did.
        if not is_over:
            _emit_stage(FAILING, subscription, stage, using=using)
            return 0
        reason = gettext("All endpoints have failed since %(since)s.") % {
            "since": since.isoformat(timespec="seconds")
        }
        subscription.down_warnings = stage
        subscription.disable(reason)
        _emit_stage(DISABLED, subscription, stage, using=using)
        transaction.on_commit(
            lambda: (
                signals.subscription_disabled.send_robust(
                    sender=Subscription, subscription=subscription, reason=reason
                )
                and None
            ),
            using=using,
        )
    return 1


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
    kind = RECOVERED if door.state == Health.State.HEALTHY else UNHEALTHY
    data = {"endpoint": str(door.pk), "host": door.endpoint.host, "reason": door.reason}
    with transaction.atomic(using=using):
        if not rows.update(told_state=door.state):
            return 0
        return _emit(kind, door.subscription, data, about=[door.endpoint.url], using=using)


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
        return _emit(SWITCHED, switch.subscription, data, about=[], using=using)


def _emit_stage(
    kind: catalog.EventType, subscription: Subscription, stage: int, *, using: str
) -> None:
    _emit(kind, subscription, {"share": STAGES[stage - 1]}, about=[], using=using)


def _mail_stage(subscription: Subscription, *, using: str) -> int:
    stage, before = subscription.down_warnings, subscription.told_stage
    rows = Subscription.objects.using(using).filter(pk=subscription.pk)
    if not rows.filter(told_stage__lt=stage).update(told_stage=stage):
        return 0
    is_over = stage == len(STAGES)
    subject = (
        gettext("Webhooks: %(name)s is disabled")
        if is_over
        else gettext("Webhooks: %(name)s will be disabled")
    )
    body = gettext(
        "All endpoints of the webhook subscription %(name)s have failed for %(share)d %% of the "
        "time after which it is disabled. Nothing is lost: its deliveries are kept, and flow when "
        "an endpoint answers or, once it is disabled, when it is resumed in the admin."
    )
    try:
        return _mail(subscription, subject, body, share=round(STAGES[stage - 1] * 100))
    except Exception:
        rows.filter(told_stage=stage).update(told_stage=before)
        raise


def _emit(
    kind: catalog.EventType,
    subscription: Subscription,
    data: dict[str, Any],
    *,
    about: Sequence[str],
    using: str,
) -> int:
    """Record an operational event for the owner's other subscriptions."""
    named = {"subscription": str(subscription.pk), "name": subscription.name, **data}
    draft = Draft(
        event_type=kind.name,
        data=named,
        owner=subscription.owner_key,
        not_to=[subscription.pk, *_behind(about, using=using)],
    )
    return sum(one.event is not None for one in outbox.record([draft], using=using))


def _behind(urls: Sequence[str], *, using: str) -> list[UUID]:
    """Return the subscriptions that one of these URLs belongs to: who fails is not told of it."""
    rows = Endpoint.objects.using(using).with_url(*(url for url in urls if url))
    return list(rows.values_list("subscription_id", flat=True))


def _mail_trouble(subscription: Subscription, *, now: datetime, using: str) -> int:
    rows = Subscription.objects.using(using).filter(pk=subscription.pk)
    if not rows.filter(told_down_at__isnull=True).update(told_down_at=now):
        return 0
    doors = list(subscription.doors.select_related("endpoint").order_by("endpoint__position"))
    lines = "\n".join(
        f"- {door.endpoint.label}: {door.get_state_display()} {door.reason}".rstrip()
        for door in doors
    )
    active = next((door.endpoint for door in doors if door.is_active), None)
    body = gettext(
        "An endpoint of the webhook subscription %(name)s does not answer as it should.\n\n"
        "%(lines)s\n\n%(now)s Nothing is lost. You are not mailed again before all its endpoints "
        "have recovered."
    )
    state = (
        gettext("Deliveries go to %(endpoint)s.") % {"endpoint": active.label}
        if active
        else gettext("Deliveries wait until one of them answers.")
    )
    try:
        return _mail(
            subscription, gettext("Webhooks: %(name)s has trouble"), body, lines=lines, now=state
        )
    except Exception:
        rows.filter(told_down_at=now).update(told_down_at=None)
        raise


def _mail(subscription: Subscription, subject: str, body: str, **parts: Any) -> int:
    recipients = _recipients(subscription)
    if not recipients:
        return 0
    # A name with a line break must not become a header.
    name = " ".join(subscription.name.split())
    send_mail(subject % {"name": name}, body % {"name": name, **parts}, None, recipients)
    return 1


def _recipients(subscription: Subscription) -> list[str]:
    wanted = settings.WEBHOOKS_NOTIFY
    if isinstance(wanted, str):
        wanted = import_string(wanted)
    if callable(wanted):
        asked: Callable[[Subscription], Iterable[str]] = wanted
        return list(asked(subscription))
    return list(wanted)

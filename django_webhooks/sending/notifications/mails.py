"""Notification mails: what people are told of changes, each once, many in one mail.

The recipients of a subscription (``WEBHOOKS_NOTIFY``) are told: at once when it has trouble, is
disabled, or has deliveries given up, then no more than once in INTERVAL_SECONDS until all is
well, which is told as well. Operators (``WEBHOOKS_NOTIFY_OPERATORS``) are told of the site.
A recipient of several subscriptions gets one mail.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.core.mail import send_mail
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils.module_loading import import_string

from ...conf import settings
from ...models import EndpointHealth, Subscription
from ...models.notification import Notification
from . import texts

#: Seconds between two mails about one subscription: often enough to see how an outage goes on, and
#: seldom enough to be read.
INTERVAL_SECONDS = 3600.0
#: Subscriptions and rows looked at by one call.
BATCH = 1000
Kind = Notification.Kind
#: What is mailed whenever it happens: it is rare, or the end.
AT_ONCE = {Kind.ENDPOINT_DISABLED, Kind.FAILING, Kind.DISABLED, Kind.UNREADABLE, Kind.READABLE}
#: How bad it is: ``Subscription.notified_level``.
WELL, TROUBLE, OUTAGE = range(3)


@dataclass(kw_only=True)
class News:
    """News of one subscription: rows, and its new level where that is news."""

    subscription: Subscription
    rows: list[Notification] = field(default_factory=list)
    level: int | None = None


def are_pending(*, using: str, now: datetime) -> bool:
    """Say whether there is anything to mail now, or to be decided."""
    return Notification.objects.using(using).unmailed().exists() or (
        bool(settings.WEBHOOKS_NOTIFY) and _changed(now, using=using).exists()
    )


def send(*, now: datetime, using: str) -> int:
    """Send what is to be mailed, and return how many mails that were.

    Whatever cannot be sent is as if it had not been tried; the first error is raised in the end.
    """
    rows = Notification.objects.using(using)
    failures: list[Exception] = []
    sent = 0
    for to, news in _by_recipients(_news(now, using=using), now=now, using=using):
        keys = [row.pk for one in news for row in one.rows]
        subject, body = texts.of_subscriptions(news)
        sent += _try(to, subject, body, keys, failures, now=now, using=using, news=news)
    of_site = list(rows.unmailed().filter(subscription__isnull=True)[:BATCH])
    if of_site:
        subject, body = texts.of_site(of_site)
        keys = [row.pk for row in of_site]
        sent += _try(operators(), subject, body, keys, failures, now=now, using=using)
    if failures:
        raise failures[0]
    return sent


def _try(
    to: Sequence[str],
    subject: str,
    body: str,
    keys: Sequence[UUID],
    failures: list[Exception],
    *,
    now: datetime,
    using: str,
    news: Sequence[News] = (),
) -> int:
    """Send one mail, and note that it was; return how many that were."""
    if to:
        try:
            send_mail(subject, body, None, list(to))
        except Exception as error:  # An address that is refused must not silence the others.
            failures.append(error)
            return 0
    rows = Notification.objects.using(using).filter(pk__in=list(keys))
    rows.update(mailed_at=now, was_mailed=bool(to))
    for one in news:
        if one.level is not None:
            worse = {"notified_at": now} if one.level > WELL else {}
            Subscription.objects.using(using).filter(pk=one.subscription.pk).update(
                notified_level=one.level, **worse
            )
    return int(bool(to))


def _news(now: datetime, *, using: str) -> list[News]:
    """Return what is to be mailed now; decide of what is not that it never will be."""
    rows = Notification.objects.using(using).unmailed().filter(subscription__isnull=False)
    found: dict[UUID, News] = {}
    for row in rows.select_related("subscription")[:BATCH]:
        assert row.subscription is not None  # nosec B101  # filtered
        news = found.setdefault(row.subscription.pk, News(subscription=row.subscription))
        news.rows.append(row)
    for subscription in _changed(now, using=using)[:BATCH]:
        news = found.setdefault(subscription.pk, News(subscription=subscription))
        news.level = level_of(subscription)
    return [one for one in found.values() if _is_due(one, now=now, using=using)]


def _is_due(news: News, *, now: datetime, using: str) -> bool:
    """Say whether news are mailed now; forget what is not worth a mail of its own."""
    kinds = {row.kind for row in news.rows}
    if news.level is not None or kinds & AT_ONCE:
        return True
    own = Notification.objects.using(using).filter(subscription=news.subscription.pk)
    if Kind.GIVEN_UP in kinds:
        lately = _since(now)
        return not own.filter(kind=Kind.GIVEN_UP, was_mailed=True, mailed_at__gt=lately).exists()
    if level_of(news.subscription) == news.subscription.notified_level:
        # The subscription fell and rose again, or moved, and people know how it is.
        own.filter(pk__in=[row.pk for row in news.rows]).update(mailed_at=now)
    return False


def _changed(now: datetime, *, using: str) -> QuerySet[Subscription]:
    """Return active subscriptions that are better or worse than people know, and may be told of.

    A change for the worse is told once in an interval, unless nothing takes deliveries any more.
    """
    own = EndpointHealth.objects.using(using).filter(subscription_id=OuterRef("pk"))
    is_failing = Exists(own.failing())
    is_out = ~Exists(own.filter(is_active=True))
    rested = Q(notified_at__isnull=True) | Q(notified_at__lte=_since(now))
    return (
        Subscription.objects.using(using)
        .active()
        .filter(
            (Q(notified_level=WELL) & Q(is_failing) & rested)
            | (Q(notified_level=TROUBLE) & Q(is_failing) & Q(is_out))
            | (Q(notified_level__gt=WELL) & ~Q(is_failing))
        )
    )


def level_of(subscription: Subscription) -> int:
    """Return how bad it is now: an endpoint fails, or none takes deliveries."""
    candidates = subscription.endpoint_health.all()
    if not candidates.failing().exists():  # type: ignore[attr-defined]  # a named set
        return WELL
    return TROUBLE if candidates.filter(is_active=True).exists() else OUTAGE


def _since(now: datetime) -> datetime:
    return now - timedelta(seconds=INTERVAL_SECONDS)


def _by_recipients(
    news: Sequence[News], *, now: datetime, using: str
) -> Iterable[tuple[tuple[str, ...], list[News]]]:
    """Return the news by who is told of them."""
    found: dict[tuple[str, ...], list[News]] = {}
    for one in news:
        found.setdefault(tuple(recipients(one.subscription)), []).append(one)
    return found.items()


def recipients(subscription: Subscription) -> list[str]:
    """Return the addresses that are told of a subscription, by WEBHOOKS_NOTIFY."""
    return _addresses(settings.WEBHOOKS_NOTIFY, subscription)


def operators() -> list[str]:
    """Return those of the site: WEBHOOKS_NOTIFY_OPERATORS, else WEBHOOKS_NOTIFY's list."""
    own = _addresses(settings.WEBHOOKS_NOTIFY_OPERATORS)
    others = settings.WEBHOOKS_NOTIFY
    if own or isinstance(others, str) or callable(others):
        return own
    return list(others)


def _addresses(wanted: Any, *arguments: Any) -> list[str]:
    if isinstance(wanted, str):
        wanted = import_string(wanted)
    if callable(wanted):
        asked: Callable[..., Iterable[str]] = wanted
        return list(asked(*arguments))
    return list(wanted)

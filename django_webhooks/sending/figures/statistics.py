"""Statistics: what the roll-ups and the rows say of a stretch of time, for people to look at."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

from django.db.models import Q, QuerySet

from ...models import Attempt, Delivery, EndpointHealth, Event, Subscription
from ...models.delivery import DeliveryQuerySet
from ...models.figures import heartbeat
from ...models.figures.heartbeat import Heartbeat
from ...models.figures.rollup import EVERYBODY, Rollup, merge
from ...models.rate_limit_state import RateLimitState
from ...policies.durations import percentile
from .. import database
from ..database import DatabaseClock
from . import rollups

#: What is waited for longer than this long says that nobody works, in seconds.
LATE = int(heartbeat.LATE.total_seconds())
#: The backlog is counted so far.
COUNTED = 10_000
_Rows = TypeVar("_Rows", bound="QuerySet[Any, Any]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """A stretch of time that ends now: how long, and how long the parts are that it is told in."""

    name: str
    length: timedelta
    part: timedelta


RANGES = {
    one.name: one
    for one in (
        Range(name="1h", length=timedelta(hours=1), part=timedelta(minutes=5)),
        Range(name="24h", length=timedelta(hours=24), part=timedelta(hours=1)),
        Range(name="7d", length=timedelta(days=7), part=timedelta(hours=6)),
        Range(name="30d", length=timedelta(days=30), part=timedelta(days=1)),
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The numbers of one part: deliveries by status, attempts that are repeated."""

    start: datetime
    succeeded: int
    given_up: int
    cancelled: int
    retries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The figures of a stretch of time; latencies and durations in milliseconds.

    ``latency`` is from the record of the event to the arrival, ``duration`` that of requests that
    arrived; each the 50th, 95th and 99th percentile, or None where nothing arrived.
    """

    parts: Sequence[Part]
    succeeded: int
    given_up: int
    cancelled: int
    retries_by_reason: Sequence[tuple[str, int]]
    latency: Sequence[float | None]
    duration: Sequence[float | None]
    counted_until: datetime | None

    @property
    def success_rate(self) -> float | None:
        """The share that arrived of all that are over and were not called off; None for none."""
        over = self.succeeded + self.given_up
        return self.succeeded / over if over else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """The backlog: due now, held, since when the oldest is due. Counts stop at :data:`COUNTED`.

    ``events`` wait for their fan-out, of whatever subscriptions.
    """

    due: int
    held: int
    oldest_due: datetime | None
    events: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """A task, when it last ran, and whether that is as long ago as it may be."""

    name: str
    at: datetime | None
    is_alive: bool


def figures(
    range_: Range,
    *,
    subscriptions: Collection[UUID] | None = None,
    now: datetime | None = None,
    using: str | None = None,
) -> Figures:
    """Return the figures of these subscriptions, or of all where None, up to ``now``."""
    using = using or database.alias()
    now = now or DatabaseClock(using=using)()
    minutes = rollups.SHORT if range_.length <= timedelta(days=1) else rollups.LONG
    # The last part is the one that is not over yet.
    end = rollups.floor(now, minutes=minutes) + timedelta(minutes=minutes)
    start = end - range_.length
    keys = [EVERYBODY] if subscriptions is None else list(subscriptions)
    rows = list(
        Rollup.objects.using(using)
        .filter(
            minutes=minutes,
            subscription__in=keys,
            period_start__gte=start,
            period_start__lt=end,
        )
        .only("period_start", "kind", "result", "reason", "count", "durations")
    )
    count = int(range_.length / range_.part)
    numbers = [
        dict.fromkeys(("succeeded", "given_up", "cancelled", "retries"), 0) for _ in range(count)
    ]
    reasons: dict[str, int] = {}
    for row in rows:
        part = numbers[min(count - 1, int((row.period_start - start) / range_.part))]
        if row.kind == Rollup.Kind.DELIVERY:
            part[row.result] += row.count
        elif row.result == Attempt.Outcome.RETRY:
            part["retries"] += row.count
            reasons[row.reason] = reasons.get(row.reason, 0) + row.count
    arrived = [row for row in rows if row.result == Delivery.Status.SUCCEEDED]
    return Figures(
        parts=[Part(start=start + index * range_.part, **one) for index, one in enumerate(numbers)],
        succeeded=sum(one["succeeded"] for one in numbers),
        given_up=sum(one["given_up"] for one in numbers),
        cancelled=sum(one["cancelled"] for one in numbers),
        retries_by_reason=sorted(reasons.items(), key=lambda item: -item[1]),
        latency=_percentiles([one for one in arrived if one.kind == Rollup.Kind.DELIVERY]),
        duration=_percentiles([one for one in arrived if one.kind == Rollup.Kind.ATTEMPT]),
        counted_until=rollups.reached(using=using),
    )


def backlog(*, subscriptions: Collection[UUID] | None = None, using: str | None = None) -> Backlog:
    """Return what waits for these subscriptions, or for all where None."""
    using = using or database.alias()
    now = DatabaseClock(using=using)()
    rows = _of(Delivery.objects.using(using).all(), subscriptions)
    due = rows.due(now)
    held = rows.filter(status=Delivery.Status.WAITING, due_at__isnull=True)
    return Backlog(
        due=due[:COUNTED].count(),
        held=held[:COUNTED].count(),
        oldest_due=oldest_due(rows, now=now),
        events=Event.objects.using(using).waiting()[:COUNTED].count(),
    )


def oldest_waiting_event(*, using: str) -> datetime | None:
    """Return since when the event waits for its fan-out that waits the longest."""
    waiting = Event.objects.using(using).waiting().order_by("pk")
    found: datetime | None = waiting.values_list("created_at", flat=True).first()
    return found


def oldest_due(rows: DeliveryQuerySet, *, now: datetime) -> datetime | None:
    """Return since when the delivery is due that is due the longest; None where none is."""
    oldest = [
        rows.longest_due(now, one).values_list("due_at", flat=True).first()
        for one in Delivery.Priority.values
    ]
    return min((one for one in oldest if one is not None), default=None)


def unresolved(
    range_: Range,
    *,
    subscriptions: Collection[UUID] | None = None,
    now: datetime | None = None,
    using: str | None = None,
) -> int:
    """Return how many given up in the range have not arrived since, counted to :data:`COUNTED`."""
    using = using or database.alias()
    now = now or DatabaseClock(using=using)()
    rows = Delivery.objects.using(using).unresolved().filter(finished_at__gt=now - range_.length)
    return _of(rows, subscriptions).order_by()[:COUNTED].count()


def waiting_for_limit(subscription: Subscription, *, using: str | None = None) -> int:
    """Return how many deliveries wait because of its limits, counted to :data:`COUNTED`."""
    using = using or database.alias()
    now = DatabaseClock(using=using)()
    own = Delivery.objects.using(using).waiting().filter(subscription=subscription)
    later = Q(due_at__gt=now, lease_token__isnull=True, attempts_made=0)
    is_backed_up = (
        RateLimitState.objects.using(using).backed_up().filter(pk=subscription.pk).exists()
    )
    held = Q(due_at__isnull=True) if is_backed_up and subscription.is_active else Q(pk__in=[])
    return own.filter(later | held)[:COUNTED].count()


def limited(
    *, subscriptions: Collection[UUID] | None = None, using: str | None = None
) -> list[Subscription]:
    """Return the subscriptions that have deliveries held because of their limits."""
    using = using or database.alias()
    rows = Subscription.objects.using(using).active()
    rows = rows.filter(pk__in=RateLimitState.objects.using(using).backed_up().values("pk"))
    return list(_of(rows, subscriptions, column="pk").order_by("name")[:50])


def stopped(
    *, subscriptions: Collection[UUID] | None = None, using: str | None = None
) -> list[Subscription]:
    """Return the subscriptions that nothing is sent to: those disabled by us, then those paused."""
    using = using or database.alias()
    rows = Subscription.objects.using(using).exclude(status=Subscription.Status.ACTIVE)
    return list(_of(rows, subscriptions, column="pk").order_by("status", "name")[:50])


def lives(*, now: datetime | None = None, using: str | None = None) -> list[Life]:
    """Return when each task last ran: beat sends them, workers run them, or stand in for it."""
    using = using or database.alias()
    now = now or DatabaseClock(using=using)()
    found = dict(Heartbeat.objects.using(using).values_list("name", "at"))
    allowed = {"sweep": LATE, "check_health": LATE, "roll_up": 5 * LATE}
    return [
        Life(
            name=name,
            at=found.get(name),
            is_alive=name in found and (now - found[name]).total_seconds() <= seconds,
        )
        for name, seconds in allowed.items()
    ]


def unhealthy(
    *, subscriptions: Collection[UUID] | None = None, using: str | None = None
) -> list[EndpointHealth]:
    """Return the endpoints that may not be called, those that fail the longest first."""
    using = using or database.alias()
    rows = EndpointHealth.objects.using(using).failing().select_related("endpoint", "subscription")
    rows = rows.exclude(subscription__status=Subscription.Status.DISABLED)
    return list(_of(rows, subscriptions).order_by("failing_since")[:50])


def disabled(
    *, subscriptions: Collection[UUID] | None = None, using: str | None = None
) -> list[EndpointHealth]:
    """Return the endpoints of active subscriptions that nothing is sent to, the last ones first."""
    using = using or database.alias()
    rows = EndpointHealth.objects.using(using).filter(
        endpoint__disabled_at__isnull=False, subscription__status=Subscription.Status.ACTIVE
    )
    rows = _of(rows.select_related("endpoint", "subscription"), subscriptions)
    return list(rows.order_by("-endpoint__disabled_at")[:50])


def _of(
    rows: _Rows, subscriptions: Collection[UUID] | None, *, column: str = "subscription_id"
) -> _Rows:
    return rows if subscriptions is None else rows.filter(**{f"{column}__in": list(subscriptions)})


def _percentiles(rows: Sequence[Rollup]) -> list[float | None]:
    durations = merge(row.durations for row in rows)
    return [percentile(durations, share) for share in (0.5, 0.95, 0.99)]

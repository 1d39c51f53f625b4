"""Statistics: what the tallies and the rows say of a stretch of time, for people to look at."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db.models import Q

from ..models import Attempt, Delivery, Flow, Health, Pulse, Subscription, Tally
from ..models.tally import EVERYBODY, merge
from ..policies.durations import percentile
from . import outbox, tallies
from .clock import DatabaseClock

#: What is waited for longer than this long says that nobody works, in seconds.
LATE = 60
#: The backlog is counted so far.
COUNTED = 10_000


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
    """What there was in a stretch of time; latencies and durations in milliseconds.

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
    """What waits: due now, held, since when the oldest is due. Counts stop at :data:`COUNTED`."""

    due: int
    held: int
    oldest_due: datetime | None


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
    using = using or outbox.database()
    now = now or DatabaseClock(using=using)()
    minutes = tallies.SHORT if range_.length <= timedelta(days=1) else tallies.LONG
    # The last part is the one that is not over yet.
    end = tallies.floor(now, minutes=minutes) + timedelta(minutes=minutes)
    start = end - range_.length
    keys = [EVERYBODY] if subscriptions is None else list(subscriptions)
    rows = list(
        Tally.objects.using(using)
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
        if row.kind == Tally.Kind.DELIVERY:
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
        latency=_percentiles([one for one in arrived if one.kind == Tally.Kind.DELIVERY]),
        duration=_percentiles([one for one in arrived if one.kind == Tally.Kind.ATTEMPT]),
        counted_until=tallies.reached(using=using),
    )


def backlog(*, subscriptions: Collection[UUID] | None = None, using: str | None = None) -> Backlog:
    """Return what waits for these subscriptions, or for all where None."""
    using = using or outbox.database()
    now = DatabaseClock(using=using)()
    rows = Delivery.objects.using(using).all()
    if subscriptions is not None:
        rows = rows.filter(subscription_id__in=list(subscriptions))
    due = rows.due(now)
    oldest = [
        due.filter(priority=one).order_by("due_at").values_list("due_at", flat=True).first()
        for one in Delivery.Priority.values
    ]
    held = rows.filter(status=Delivery.Status.WAITING, due_at__isnull=True)
    return Backlog(
        due=due[:COUNTED].count(),
        held=held[:COUNTED].count(),
        oldest_due=min((one for one in oldest if one is not None), default=None),
    )


def waiting_for_limit(subscription: Subscription, *, using: str | None = None) -> int:
    """Return how many deliveries wait because of its limits, counted to :data:`COUNTED`."""
    using = using or outbox.database()
    now = DatabaseClock(using=using)()
    own = Delivery.objects.using(using).waiting().filter(subscription=subscription)
    later = Q(due_at__gt=now, lease_token__isnull=True, attempts_made=0)
    is_backed_up = Flow.objects.using(using).backed_up().filter(pk=subscription.pk).exists()
    held = Q(due_at__isnull=True) if is_backed_up and subscription.is_active else Q(pk__in=[])
    return own.filter(later | held)[:COUNTED].count()


def limited(
    *, subscriptions: Collection[UUID] | None = None, using: str | None = None
) -> list[Subscription]:
    """Return the subscriptions that have deliveries held because of their limits."""
    using = using or outbox.database()
    rows = Subscription.objects.using(using).active()
    rows = rows.filter(pk__in=Flow.objects.using(using).backed_up().values("pk"))
    if subscriptions is not None:
        rows = rows.filter(pk__in=list(subscriptions))
    return list(rows.order_by("name")[:50])


def stopped(
    *, subscriptions: Collection[UUID] | None = None, using: str | None = None
) -> list[Subscription]:
    """Return the subscriptions that nothing is sent to: those disabled by us, then those paused."""
    using = using or outbox.database()
    rows = Subscription.objects.using(using).exclude(status=Subscription.Status.ACTIVE)
    if subscriptions is not None:
        rows = rows.filter(pk__in=list(subscriptions))
    return list(rows.order_by("status", "name")[:50])


def lives(*, now: datetime | None = None, using: str | None = None) -> list[Life]:
    """Return when each task last ran: beat sends them, workers run them, or stand in for it."""
    using = using or outbox.database()
    now = now or DatabaseClock(using=using)()
    found = dict(Pulse.objects.using(using).values_list("name", "at"))
    allowed = {"sweep": LATE, "check_health": LATE, "tally": 5 * LATE}
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
) -> list[Health]:
    """Return the endpoints that may not be called, those that fail the longest first."""
    using = using or outbox.database()
    rows = Health.objects.using(using).failing().select_related("endpoint", "subscription")
    rows = rows.exclude(subscription__status=Subscription.Status.DISABLED)
    if subscriptions is not None:
        rows = rows.filter(subscription_id__in=list(subscriptions))
    return list(rows.order_by("failing_since")[:50])


def _percentiles(rows: Sequence[Tally]) -> list[float | None]:
    durations = merge(row.durations for row in rows)
    return [percentile(durations, share) for share in (0.5, 0.95, 0.99)]

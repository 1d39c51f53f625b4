"""Roll-ups: count what was over and what was attempted in each period of five minutes, and hours.

A period is counted anew while something may still be recorded in it, so that a run that is late,
doubled or missing changes nothing but when the figures are there.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Count, F, Func, IntegerField, QuerySet
from django.db.models.functions import Cast, Floor, Ln

from ...fields import uuid7_at
from ...models import Attempt, Delivery
from ...models.figures.heartbeat import Heartbeat
from ...models.figures.rollup import EVERYBODY, Rollup, merge
from ...policies.durations import GROWTH
from .. import database
from ..database import DatabaseClock

#: Minutes of the short periods, and of the long ones that are made of them.
SHORT, LONG = 5, 60
#: For so long rows may still come into a period that is over.
SETTLES = timedelta(minutes=5)
#: For so long the short periods are kept, and the long ones.
KEPT = {SHORT: timedelta(days=2), LONG: timedelta(days=400)}
#: Name of the heartbeat that remembers how far it came.
HEARTBEAT = "roll_up"


class _Milliseconds(Func):
    """The milliseconds from the second moment to the first."""

    arity = 2
    output_field = IntegerField()

    def as_sql(self, compiler: Any, connection: Any, *args: Any, **extra: Any) -> Any:
        template = "(django_timestamp_diff(%(expressions)s) / 1000)"
        return super().as_sql(compiler, connection, **{"template": template, **extra})

    def as_postgresql(self, compiler: Any, connection: Any, **extra: Any) -> Any:
        template = "(EXTRACT(EPOCH FROM (%(expressions)s)) * 1000)"
        return super().as_sql(compiler, connection, template=template, arg_joiner=" - ", **extra)

    def as_mysql(self, compiler: Any, connection: Any, **extra: Any) -> Any:
        reversed_ = self.copy()
        reversed_.set_source_expressions(self.get_source_expressions()[::-1])
        template = "(TIMESTAMPDIFF(MICROSECOND, %(expressions)s) / 1000)"
        return super(_Milliseconds, reversed_).as_sql(
            compiler, connection, template=template, **extra
        )


def count(
    *,
    using: str | None = None,
    now: datetime | None = None,
    max_seconds: float = 30.0,
) -> int:
    """Count what is new, and return how many periods that were.

    The count goes on from where the last run came to, and stops after ``max_seconds``.
    """
    using = using or database.alias()
    now = now or DatabaseClock(using=using)()
    ends = time.monotonic() + max_seconds
    reached = _reached(using=using)
    if reached is None:
        return _remember(now=now, reached=now, using=using)
    periods, end = 0, now
    for start, minutes in _periods(min(reached, now) - SETTLES, now):
        _count_rows(start, minutes=minutes, using=using)
        periods += 1
        following = start + timedelta(minutes=minutes)
        if minutes == SHORT and (following.minute == 0 or following > now):
            _add_up(floor(start, minutes=LONG), using=using)
        if time.monotonic() > ends:
            end = min(now, following)
            break
    _remember(now=now, reached=end, using=using)
    for minutes, kept in KEPT.items():
        rows = Rollup.objects.using(using).filter(minutes=minutes)
        rows.filter(period_start__lt=now - kept)._raw_delete(using)
    return periods


def reached(*, using: str | None = None) -> datetime | None:
    """Return up to which moment everything is counted."""
    using = using or database.alias()
    return (
        Heartbeat.objects.using(using)
        .filter(pk=HEARTBEAT)
        .values_list("reached", flat=True)
        .first()
    )


def _reached(*, using: str) -> datetime | None:
    """Return where to go on: in the beginning at the oldest row there is."""
    if (known := reached(using=using)) is not None:
        return known
    attempts = Attempt.objects.using(using).order_by("pk")
    return attempts.values_list("started_at", flat=True).first()


def _remember(*, now: datetime, reached: datetime, using: str) -> int:
    rows = Heartbeat.objects.using(using)
    rows.beat(HEARTBEAT, now=now)
    rows.filter(pk=HEARTBEAT).update(reached=reached)
    return 0


def _periods(start: datetime, end: datetime) -> Iterator[tuple[datetime, int]]:
    """Yield the periods in order: whole hours where the short ones are not kept any more."""
    at = floor(start, minutes=SHORT)
    while at <= end:
        minutes = LONG if at < floor(end - KEPT[SHORT], minutes=LONG) else SHORT
        at = floor(at, minutes=minutes)
        yield at, minutes
        at += timedelta(minutes=minutes)


def floor(moment: datetime, *, minutes: int) -> datetime:
    """Return the beginning of the period that the moment is in."""
    seconds = minutes * 60
    return datetime.fromtimestamp(moment.timestamp() // seconds * seconds, UTC)


def _count_rows(start: datetime, *, minutes: int, using: str) -> None:
    end = start + timedelta(minutes=minutes)
    over = Delivery.objects.using(using).filter(
        status__in=[
            Delivery.Status.SUCCEEDED,
            Delivery.Status.GIVEN_UP,
            Delivery.Status.CANCELLED,
        ],
        finished_at__gte=start,
        finished_at__lt=end,
    )
    # Ids are made when an attempt is recorded, and have an index.
    attempts = Attempt.objects.using(using).filter(pk__gte=uuid7_at(start), pk__lt=uuid7_at(end))
    groups = [
        *_groups(
            over.annotate(ms=_Milliseconds(F("finished_at"), F("created_at"))),
            Rollup.Kind.DELIVERY,
            subscription="subscription_id",
            result="status",
        ),
        *_groups(
            attempts.annotate(ms=F("duration_ms")),
            Rollup.Kind.ATTEMPT,
            subscription="delivery__subscription_id",
            result="outcome",
        ),
    ]
    _store(groups, minutes=minutes, start=start, using=using)


def _groups(
    rows: QuerySet[Any], kind: str, *, subscription: str, result: str
) -> Iterator[tuple[UUID, str, str, str, dict[str, int], int]]:
    counted = (
        rows.order_by()
        .annotate(
            duration_class=Cast(
                Floor(Ln(Cast(F("ms"), IntegerField()) + 1.0) / math.log(GROWTH)), IntegerField()
            )
        )
        .values_list(subscription, result, "reason", "duration_class")
        .annotate(Count("pk"))
    )
    for owner, what, reason, duration_class, number in counted:
        # A clock that was set back makes durations that are none.
        durations = {str(max(0, duration_class or 0)): number}
        for key in (owner, EVERYBODY):
            if key is not None:
                yield key, kind, what, reason, durations, number


def _add_up(start: datetime, *, using: str) -> None:
    """Make an hour of its short periods."""
    short = Rollup.objects.using(using).filter(
        minutes=SHORT, period_start__gte=start, period_start__lt=start + timedelta(minutes=LONG)
    )
    _store(
        (
            (one.subscription, one.kind, one.result, one.reason, one.durations, one.count)
            for one in short
        ),
        minutes=LONG,
        start=start,
        using=using,
    )


def _store(
    groups: Iterable[tuple[UUID, str, str, str, dict[str, int], int]],
    *,
    minutes: int,
    start: datetime,
    using: str,
) -> None:
    made: dict[tuple[UUID, str, str, str], Rollup] = {}
    for subscription, kind, result, reason, durations, number in groups:
        key = (subscription, kind, result, reason)
        if key not in made:
            made[key] = Rollup(
                minutes=minutes,
                period_start=start,
                subscription=subscription,
                kind=kind,
                result=result,
                reason=reason,
                count=0,
            )
        made[key].count += number
        made[key].durations = merge([made[key].durations, durations])
    rows = Rollup.objects.using(using)
    with transaction.atomic(using=using):
        # One after the other, where two beats run.
        Heartbeat.objects.using(using).select_for_update().filter(pk=HEARTBEAT).first()
        rows.filter(minutes=minutes, period_start=start)._raw_delete(using)
        rows.bulk_create(made.values())

"""Audit rules about the traffic: deliveries that were given up, volumes that are unusual."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID

from django.db.models import Count, Min
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ...models import Delivery, Subscription
from ...models.figures.rollup import EVERYBODY, Rollup
from ...sending.figures import health_report, rollups
from ..finding import AuditContext, FindingDraft, Severity, rule

#: Days that the last one is compared with, and that have to be told of before it is.
DAYS, ENOUGH = 7, 3
#: Fewer deliveries on each of these days are too few to say what is usual.
FEW = 20
#: So many times the busiest day, or this share of the quietest one, is unusual.
MANY, LITTLE = 5.0, 0.1


@rule(
    "webhooks.A016",
    Severity.WARNING,
    gettext_lazy("See in the admin's overview what happens, and whether it should."),
)
def unusual_volumes(context: AuditContext) -> Iterator[FindingDraft]:
    """Yield subscriptions that had far more, or far fewer, deliveries than on the days before."""
    by_day = _by_day(context)
    names = dict(
        Subscription.objects.using(context.using)
        .filter(pk__in=list(by_day))
        .values_list("pk", "name")
    )
    for key, days in by_day.items():
        before = [count for count in days[1:] if count]
        if key not in names or len(before) < ENOUGH or min(before) < FEW:
            continue
        if min(before) * LITTLE <= days[0] <= max(before) * MANY:
            continue
        yield FindingDraft.of(
            f"subscription:{key}",
            _("%(name)s had %(count)d deliveries in a day; on the days before there were "
              "%(least)d to %(most)d."),
            name=names[key], count=days[0], least=min(before), most=max(before),
        )  # fmt: skip


@rule(
    "webhooks.A026",
    Severity.WARNING,
    gettext_lazy("Replay them once the receiver is well, or accept that they are lost."),
)
def given_up(context: AuditContext) -> Iterator[FindingDraft]:
    """Yield subscriptions with deliveries given up long ago that did not arrive by a replay."""
    limit = context.now - health_report.IDLE
    rows = Delivery.objects.using(context.using).unresolved()
    found = rows.filter(finished_at__lte=limit, subscription__isnull=False).order_by()
    for one in found.values("subscription_id", "subscription__name").annotate(
        count=Count("pk"), oldest=Min("finished_at")
    ):
        yield FindingDraft.of(
            f"subscription:{one['subscription_id']}",
            _("%(count)d deliveries of %(name)s were given up, the oldest %(when)s, and "
              "did not arrive by a replay."),
            count=one["count"], name=one["subscription__name"], when=one["oldest"],
        )  # fmt: skip


def _by_day(context: AuditContext) -> dict[UUID, list[int]]:
    """Return how many deliveries were over, by subscription: in the last day, and those before."""
    end = rollups.floor(context.now, minutes=rollups.LONG) + timedelta(minutes=rollups.LONG)
    rows = Rollup.objects.using(context.using).filter(
        minutes=rollups.LONG,
        kind=Rollup.Kind.DELIVERY,
        period_start__gte=end - timedelta(days=DAYS + 1),
        period_start__lt=end,
    )
    found: dict[UUID, list[int]] = {}
    for key, start, count in rows.exclude(subscription=EVERYBODY).values_list(
        "subscription", "period_start", "count"
    ):
        days = found.setdefault(key, [0] * (DAYS + 1))
        ago = (end - start - timedelta(microseconds=1)) // timedelta(days=1)
        days[min(DAYS, ago)] += count
    return found

"""What is wrong with the traffic: deliveries that were given up, volumes that are unusual."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID

from django.db.models import Count, Exists, Min, OuterRef
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ...conf import settings
from ...models import Delivery, Subscription, Tally
from ...models.tally import EVERYBODY
from ...sending import tallies
from ..finding import Scene, Severity, Told, rule
from .endpoints import when

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
def unusual_volumes(scene: Scene) -> Iterator[Told]:
    """Yield subscriptions that had far more, or far fewer, deliveries than on the days before."""
    by_day = _by_day(scene)
    names = dict(
        Subscription.objects.using(scene.using)
        .filter(pk__in=list(by_day))
        .values_list("pk", "name")
    )
    for key, days in by_day.items():
        before = [count for count in days[1:] if count]
        if key not in names or len(before) < ENOUGH or min(before) < FEW:
            continue
        if min(before) * LITTLE <= days[0] <= max(before) * MANY:
            continue
        yield Told(
            subject=f"subscription:{key}",
            sentence=_("%(name)s had %(count)d deliveries in a day; on the days before there were "
                       "%(least)d to %(most)d.")
            % {"name": names[key], "count": days[0], "least": min(before), "most": max(before)},
        )  # fmt: skip


@rule(
    "webhooks.A026",
    Severity.WARNING,
    gettext_lazy("Replay them once the receiver is well, or accept that they are lost."),
)
def given_up(scene: Scene) -> Iterator[Told]:
    """Yield subscriptions with deliveries that were given up long ago and never replayed."""
    limit = scene.now - timedelta(days=settings.WEBHOOKS_AUDIT_IDLE_DAYS)
    rows = Delivery.objects.using(scene.using).filter(
        status=Delivery.Status.GIVEN_UP, finished_at__lte=limit, subscription__isnull=False
    )
    replays = Delivery.objects.using(scene.using).filter(replay_of_id=OuterRef("pk"))
    found = rows.filter(~Exists(replays)).order_by()
    for one in found.values("subscription_id", "subscription__name").annotate(
        count=Count("pk"), oldest=Min("finished_at")
    ):
        yield Told(
            subject=f"subscription:{one['subscription_id']}",
            sentence=_("%(count)d deliveries of %(name)s were given up, the oldest %(when)s, and "
                       "not replayed.")
            % {
                "count": one["count"],
                "name": one["subscription__name"],
                "when": when(one["oldest"]),
            },
        )  # fmt: skip


def _by_day(scene: Scene) -> dict[UUID, list[int]]:
    """Return how many deliveries were over, by subscription: in the last day, and those before."""
    end = tallies.floor(scene.now, minutes=tallies.LONG) + timedelta(minutes=tallies.LONG)
    rows = Tally.objects.using(scene.using).filter(
        minutes=tallies.LONG,
        kind=Tally.Kind.DELIVERY,
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

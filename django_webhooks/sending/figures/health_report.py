"""The health report: whether something is not well, each thing in a sentence with what to do.

All who say whether something is well ask :func:`report`: the overview of the admin,
``webhooks_health`` and its exit status, metrics, audits, notifications.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.apps import apps
from django.db import models
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from ... import beat, extensions, times
from ...models import Delivery, Endpoint, EndpointHealth, Event, Subscription
from ...models.figures.heartbeat import LATE, Heartbeat
from ...models.reencryption import unreadable
from .. import database
from ..database import DatabaseClock
from . import statistics

#: So long may deliveries be due while workers are at work.
BACKLOG_LATE = timedelta(minutes=5)
#: ``prune`` runs in the queue of the deliveries once an hour, whether there is traffic or not.
PRUNE_LATE = timedelta(minutes=75)
#: A given-up delivery is a problem for so long: by then somebody has decided about it. Older ones,
#: and a pause or silence that lasts for longer, are findings of audits.
IDLE = timedelta(days=7)
#: Subscriptions, endpoints and deliveries that are named one by one.
NAMED = 20


class Kind(enum.StrEnum):
    """Kinds of problems; the code is in metrics and in ``webhooks_health --ignore``."""

    #: Nobody runs what beat asks for: beat is dead, or no worker consumes the periodic queue.
    NO_BEAT = "no_beat"
    #: No worker consumes the queue of the deliveries.
    NO_WORKER = "no_worker"
    #: Workers are at work, but too few or too slow.
    LATE = "late"
    #: Events whose deliveries could not be made.
    FAN_OUT = "fan_out"
    #: Rows that do not open with the encryption keys there are.
    UNREADABLE = "unreadable"
    ENDPOINT_UNHEALTHY = "endpoint_unhealthy"
    #: The receiver said that it is gone, or somebody disabled it.
    ENDPOINT_DISABLED = "endpoint_disabled"
    SUBSCRIPTION_DISABLED = "subscription_disabled"
    #: An active subscription that has nothing to send to.
    NO_ENDPOINT = "no_endpoint"
    #: Given up within a week, and not arrived by a replay.
    GIVEN_UP = "given_up"
    #: The last audit found something severe that nobody accepted (the app ``auditing``).
    AUDIT = "audit"


def kinds() -> list[Kind]:
    """Return the kinds that the installed apps can find."""
    audits = apps.is_installed("django_webhooks.auditing")
    return [one for one in Kind if audits or one is not Kind.AUDIT]


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is not well.

    ``subject`` stays the same as long as it lasts, such as ``endpoint:<id>``. ``count`` is how many
    there are where several are told as one.
    """

    kind: Kind
    subject: str
    sentence: str
    advice: str
    count: int = 1

    def __str__(self) -> str:
        return f"{self.sentence} {self.advice}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All that is not well at a moment."""

    at: datetime
    problems: Sequence[Problem]

    @property
    def is_well(self) -> bool:
        """Whether nothing is to be done."""
        return not self.problems

    def of(self, *kinds: Kind) -> list[Problem]:
        """Return the problems of these kinds."""
        return [one for one in self.problems if one.kind in kinds]

    def count(self, kind: Kind) -> int:
        """Return how many things of a kind are not well."""
        return sum(one.count for one in self.of(kind))


def report(
    *,
    subscriptions: Collection[UUID] | None = None,
    using: str | None = None,
    now: datetime | None = None,
) -> Report:
    """Return what is not well, of these subscriptions or of all where None, the gravest first."""
    using = using or database.alias()
    now = now or DatabaseClock(using=using)()
    return Report(
        at=now,
        problems=[
            *site(using=using, now=now),
            *_subscriptions(subscriptions, using=using),
            *_endpoints(subscriptions, using=using),
            *_given_up(subscriptions, using=using, now=now),
        ],
    )


def site(*, using: str, now: datetime) -> Iterator[Problem]:
    """Yield what concerns operators: workers, beat, keys, and what optional apps know."""
    yield from running(using=using, now=now)
    yield from _failed_events(using=using)
    yield from _unreadable(using=using)
    for one in extensions.installed():
        yield from one.problems(using=using)


def running(*, using: str, now: datetime) -> Iterator[Problem]:
    """Yield what is wrong with workers and beat: by what they said last, and by what waits."""
    waits_since = statistics.oldest_due(Delivery.objects.using(using).all(), now=now)
    event_since = statistics.oldest_waiting_event(using=using)
    waits = any(one is not None and one < now - LATE for one in (waits_since, event_since))
    # A site that has just been set up, and one that sends nothing, misses nothing.
    made = Subscription.objects.using(using).filter(created_at__lte=now - LATE)
    if not (waits or made.exists()):
        return
    lives = statistics.lives(now=now, using=using)
    late = [one for one in lives if not one.is_alive]
    if late:
        yield Problem(
            kind=Kind.NO_BEAT,
            subject="beat",
            sentence=_("Periodic tasks do not run: %(tasks)s; the last ran at %(time)s.")
            % {
                "tasks": ", ".join(one.name for one in late),
                "time": times.written(max((one.at for one in late if one.at), default=None)),
            },
            advice=_(
                "Start Celery's beat, and a worker that consumes the queue %(queue)s: "
                "docs/howto/celery.md."
            )
            % {"queue": beat.PERIODIC_QUEUE},
        )
    is_working = Heartbeat.objects.using(using).is_delivering(now)
    if waits and not is_working:
        if waits_since is not None and waits_since < now - LATE:
            sentence = _("Deliveries have been due since %(time)s, and no worker takes them.")
        else:
            waits_since = event_since
            sentence = _("Events have waited since %(time)s, and no worker makes their deliveries.")
        yield _no_worker(sentence % {"time": times.written(waits_since)})
    elif waits_since is not None and waits_since < now - BACKLOG_LATE:
        yield Problem(
            kind=Kind.LATE,
            subject="backlog",
            sentence=_("Workers do not keep up: the oldest delivery has been due since %(time)s.")
            % {"time": times.written(waits_since)},
            advice=_("Start more workers: docs/howto/scale.md."),
        )
    elif event_since is not None and event_since < now - BACKLOG_LATE:
        yield Problem(
            kind=Kind.LATE,
            subject="backlog",
            sentence=_(
                "Workers do not keep up: the oldest event has waited since %(time)s for its "
                "deliveries to be made."
            )
            % {"time": times.written(event_since)},
            advice=_("Start more workers: docs/howto/scale.md."),
        )
    elif not is_working and not late:
        last = _last_of_queue(using=using)
        if last is not None and last < now - PRUNE_LATE:
            yield _no_worker(
                _("No task has run in the queue of the deliveries since %(time)s.")
                % {"time": times.written(last)}
            )


def _last_of_queue(*, using: str) -> datetime | None:
    """Return when a task last ran in the queue of the deliveries; None where prune never did."""
    found = dict(Heartbeat.objects.using(using).values_list("name", "at"))
    return max(found["prune"], found.get("deliver", found["prune"])) if "prune" in found else None


def _no_worker(sentence: str) -> Problem:
    return Problem(
        kind=Kind.NO_WORKER,
        subject="worker",
        sentence=sentence,
        advice=_("Start a worker that consumes the queue %(queue)s: docs/howto/celery.md.")
        % {"queue": beat.QUEUE},
    )


def _failed_events(*, using: str) -> Iterator[Problem]:
    count = Event.objects.using(using).failed()[: statistics.COUNTED].count()
    if count:
        yield Problem(
            kind=Kind.FAN_OUT,
            subject="events",
            sentence=ngettext(
                "The deliveries of %(count)d event could not be made, and nothing of it is sent.",
                "The deliveries of %(count)d events could not be made, and nothing of them is "
                "sent.",
                count,
            )
            % {"count": count},
            advice=_(
                "The worker's log has the errors. Mend their cause, then fan the events out again "
                "in the admin: docs/howto/operate.md#fan-out."
            ),
            count=count,
        )


def _unreadable(*, using: str) -> Iterator[Problem]:
    found = unreadable(using=using)
    if not found.values:
        return
    sentence = ngettext(
        "%(count)d encrypted value cannot be read with the keys there are; deliveries of "
        "%(names)s wait.",
        "%(count)d encrypted values cannot be read with the keys there are; deliveries of "
        "%(names)s wait.",
        found.values,
    ) % {"count": found.values, "names": ", ".join(found.subscriptions) or "-"}
    if found.missing_keys:
        keys = ", ".join(sorted(found.missing_keys))
        advice = _(
            "Add the missing key (%(keys)s) to WEBHOOKS_ENCRYPTION_KEYS again, or enter the "
            "values anew: docs/howto/rotate-keys.md."
        ) % {"keys": keys}
    else:
        advice = _("They were changed past this app: enter them anew.")
    yield Problem(
        kind=Kind.UNREADABLE,
        subject="keys",
        sentence=sentence,
        advice=advice,
        count=found.values,
    )


def _subscriptions(keys: Collection[UUID] | None, *, using: str) -> Iterator[Problem]:
    rows = Subscription.objects.using(using).order_by("name", "pk")
    if keys is not None:
        rows = rows.filter(pk__in=list(keys))
    yield from _each(
        Kind.SUBSCRIPTION_DISABLED,
        rows.filter(status=Subscription.Status.DISABLED),
        subject=lambda one: f"subscription:{one.pk}",
        sentence=lambda one: (
            _("%(name)s is disabled. %(reason)s") % {"name": one.name, "reason": one.status_reason}
        ),
        advice=_("Mend its receiver, then resume it; what happened meanwhile is kept."),
    )
    usable = Endpoint.objects.using(using).filter(disabled_at__isnull=True)
    yield from _each(
        Kind.NO_ENDPOINT,
        rows.active().exclude(pk__in=usable.values("subscription_id")),
        subject=lambda one: f"subscription:{one.pk}",
        sentence=lambda one: (
            _("%(name)s has no endpoint that may be sent to.") % {"name": one.name}
        ),
        advice=_("Add an endpoint, or enable one; or pause the subscription."),
    )


def _endpoints(keys: Collection[UUID] | None, *, using: str) -> Iterator[Problem]:
    rows = EndpointHealth.objects.using(using).filter(
        subscription__status=Subscription.Status.ACTIVE
    )
    if keys is not None:
        rows = rows.filter(subscription_id__in=list(keys))
    rows = rows.select_related("endpoint", "subscription").order_by(
        "subscription__name", "subscription_id", "endpoint__position"
    )
    yield from _each(
        Kind.ENDPOINT_UNHEALTHY,
        rows.failing(),
        subject=lambda one: f"endpoint:{one.endpoint_id}",
        sentence=lambda one: (
            _("%(name)s: %(endpoint)s fails since %(time)s (%(reason)s).")
            % _of_endpoint(one, since=one.failing_since, reason=one.reason)
        ),
        advice=_("Look at its receiver: docs/howto/endpoint-down.md."),
    )
    yield from _each(
        Kind.ENDPOINT_DISABLED,
        rows.filter(endpoint__disabled_at__isnull=False),
        subject=lambda one: f"endpoint:{one.endpoint_id}",
        sentence=lambda one: (
            _("%(name)s: %(endpoint)s is disabled since %(time)s (%(reason)s).")
            % _of_endpoint(
                one,
                since=one.endpoint.disabled_at,
                reason=one.endpoint.disabled_reason or one.endpoint.disabled_by,
            )
        ),
        advice=_("Ask its receiver, then enable it, give it another URL, or delete it."),
    )


def _of_endpoint(health: EndpointHealth, *, since: datetime | None, reason: str) -> dict[str, str]:
    return {
        "name": health.subscription.name,
        "endpoint": health.endpoint.label,
        "time": times.written(since),
        "reason": reason or "-",
    }


def _given_up(keys: Collection[UUID] | None, *, using: str, now: datetime) -> Iterator[Problem]:
    since = now - IDLE
    rows = Delivery.objects.using(using).unresolved()
    rows = rows.filter(finished_at__gt=since, subscription__isnull=False).order_by()
    if keys is not None:
        rows = rows.filter(subscription_id__in=list(keys))
    some = rows[: statistics.COUNTED].values_list("subscription_id", flat=True)
    counts = Counter(key for key in some if key is not None)
    named = Subscription.objects.using(using).filter(pk__in=list(counts))
    names = dict(named.values_list("pk", "name"))
    for key, count in counts.most_common(NAMED):
        yield Problem(
            kind=Kind.GIVEN_UP,
            subject=f"subscription:{key}",
            sentence=ngettext(
                "%(name)s: %(count)d delivery was given up, and has not arrived since.",
                "%(name)s: %(count)d deliveries were given up, and have not arrived since.",
                count,
            )
            % {"name": names.get(key, "-"), "count": count},
            advice=_("See why, mend it, and replay them: docs/howto/operate.md#replay."),
            count=count,
        )
    if len(counts) > NAMED:
        told = sum(number for _key, number in counts.most_common(NAMED))
        yield _rest(Kind.GIVEN_UP, counts.total() - told)


def _each(
    kind: Kind,
    rows: models.QuerySet[Any, Any],
    *,
    subject: Callable[[Any], str],
    sentence: Callable[[Any], str],
    advice: str,
) -> Iterator[Problem]:
    """Yield a problem for each of the first rows, and one for all the others."""
    named = list(rows[:NAMED])
    for one in named:
        yield Problem(kind=kind, subject=subject(one), sentence=sentence(one), advice=advice)
    if len(named) == NAMED and (count := rows.count()) > NAMED:
        yield _rest(kind, count - NAMED)


def _rest(kind: Kind, count: int) -> Problem:
    return Problem(
        kind=kind,
        subject="others",
        sentence=ngettext(
            "%(count)d more of this kind (%(kind)s).",
            "%(count)d more of this kind (%(kind)s).",
            count,
        )
        % {"count": count, "kind": kind.value},
        advice=_("The admin lists them all."),
        count=count,
    )

"""Dispatch: lease what is due, attempt it through the window, record what comes back."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Hashable, Sequence, Set
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from django.db import DatabaseError

from ..conf import settings
from ..models import Delivery, Subscription
from ..policies.health import Evidence
from ..policies.retry import TryAgain
from . import attempt, health, leases, ledger, outbox, routes, slowness, upkeep
from .attempt import Job, Result
from .clock import carried_on
from .pacing import Pacer
from .planning import Planner
from .window import Window

logger = logging.getLogger(__name__)

#: Seconds between two looks for results, and for new work while requests are under way.
TICK = 0.02
#: Seconds between two looks at the routes of what is slow: another worker may have switched.
REFRESH = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained:
    """What a run did: attempts recorded, seconds to the earliest retry, whether work is left."""

    attempts: int = 0
    next_in: float | None = None
    is_more_due: bool = False


@dataclass(frozen=True, slots=True)
class _Unbegun:
    """A job that was not attempted: its lease ends too soon, or no endpoint may be called."""

    job: Job
    is_held: bool = False


def drain(
    delivery_ids: Collection[UUID] = (),
    *,
    using: str | None = None,
    clock: Callable[[], datetime] | None = None,
    is_patient: bool = True,
) -> Drained:
    """Attempt the deliveries named, then whatever else is due, and return what was done.

    After WEBHOOKS_DRAIN_SECONDS no further work is taken; what is under way ends. While slow
    requests are under way, other work is still taken, so that one receiver does not hold up others.
    Who is patient waits for the next moment of a limited subscription where that is near.
    """
    using = using or outbox.database()
    clock = clock or carried_on(using=using)
    run = _Run(using=using, clock=clock, is_patient=is_patient)
    try:
        if delivery_ids:
            run.take(ids=delivery_ids)
        run.work()
    except DatabaseError:
        run.save_results()
        raise
    finally:
        run.window.close()
        run.pacer.end()
    return run.drained


class _Run:
    """One call of :func:`drain`."""

    def __init__(
        self, *, using: str, clock: Callable[[], datetime], is_patient: bool = True
    ) -> None:
        self.using, self.clock = using, clock
        self.drained = Drained()
        self.window: Window[tuple[Job, datetime], Result | _Unbegun] = Window(
            self._attempt,
            size=settings.WEBHOOKS_MAX_IN_FLIGHT,
            per_key=settings.WEBHOOKS_MAX_IN_FLIGHT_PER_ENDPOINT,
            is_urgent=_is_urgent,
            slowness=slowness.memory,
        )
        self.pacer = Pacer(self.window, clock=clock, using=using, is_patient=is_patient)
        self._ends = time.monotonic() + settings.WEBHOOKS_DRAIN_SECONDS
        self._looked_at = float("-inf")
        self._found = 0
        self._has_withdrawn = False
        self._next_at: datetime | None = None
        #: Results that the database did not take.
        self._unrecorded: list[Result] = []
        #: Subscriptions with their endpoints as they were last read.
        self._subscriptions: dict[UUID, Subscription] = {}
        self._routes: dict[UUID, tuple[Subscription, routes.Route]] = {}
        self._refreshed_at = time.monotonic()

    def work(self) -> None:
        """Take work where there is room and record what comes back, until all is done."""
        # What was named is under way. Looking for more would compete with it for the processor.
        self._record(self.window.collect(timeout=TICK))
        while True:
            if self._is_ending() and not self._has_withdrawn:
                self._withdraw()
            if self._has_room():
                self.take()
            self._record(self.window.collect(timeout=TICK))
            if time.monotonic() - self._refreshed_at >= REFRESH and self.window.slow_keys:
                self._refresh(set(self._subscriptions))
            if self.window.is_empty and (self._is_ending() or not self._found):
                if self._is_ending() or not self.pacer.lingers():
                    break
                self._found = 1
        self._sum_up()

    def save_results(self) -> None:
        """Record what is under way, once more, after the database failed; take nothing more.

        A result that is not recorded is a request that is repeated.
        """
        unbegun = [_Unbegun(job) for job, _ in self.window.withdraw()]
        results = self._unrecorded
        while not self.window.is_empty:
            for one in self.window.collect(timeout=TICK):
                if isinstance(one, Result):
                    results.append(one)
                else:
                    unbegun.append(one)
        try:
            if results:
                ledger.record(results, now=self.clock(), using=self.using)
            self._let_go(unbegun)
        except DatabaseError as error:
            logger.warning("%d attempts could not be recorded: %s", len(results), error)

    def _sum_up(self) -> None:
        """Say what is left, and when to look again."""
        now, moment = self.clock(), self.pacer.next_moment()
        if moment is not None:
            self._next_at = min(moment, self._next_at or moment)
        due = Delivery.objects.using(self.using).due(now)
        if self._is_ending() and due.exists():
            self.drained = replace(self.drained, is_more_due=True)
        if self._next_at is not None:
            wait = max(0.0, (self._next_at - now).total_seconds())
            self.drained = replace(self.drained, next_in=wait)

    def take(self, *, ids: Collection[UUID] | None = None) -> None:
        """Lease due work and submit it."""
        # What is slow, or at the end all that is under way, must not delay the end or the others;
        # what has enough queued here is left to other workers.
        passed_over = self.window.slow_keys
        if self._is_ending():
            passed_over = self.window.keys_under_way | self._known_to_be_slow()
        crowded = self.window.crowded_keys(beyond=settings.WEBHOOKS_BATCH_SIZE // 2)
        lease = leases.take(
            now=self.clock(),
            limit=settings.WEBHOOKS_BATCH_SIZE,
            using=self.using,
            ids=ids,
            except_subscriptions=[key for key in passed_over | crowded if isinstance(key, UUID)],
        )
        # What was named says nothing of what else is due.
        found = lease.found if ids is None else 1
        self._looked_at, self._found = time.monotonic(), found
        self._submit(lease)

    def _known_to_be_slow(self) -> set[Hashable]:
        """Return those that would make the end of this run later and later."""
        now = time.monotonic()
        return {key for key in self._subscriptions if slowness.memory.is_slow(key, now=now)}

    def _is_ending(self) -> bool:
        return time.monotonic() >= self._ends

    def _has_room(self) -> bool:
        # At the end, further work is only taken while slow requests keep this process waiting.
        if self._is_ending() and not self.window.slow_keys:
            return False
        if self.window.startable > settings.WEBHOOKS_BATCH_SIZE // 2:
            return False
        # Where nothing was due, look again after a while rather than at every tick.
        return bool(self._found) or time.monotonic() - self._looked_at >= 2 * TICK

    def _withdraw(self) -> None:
        self._has_withdrawn = True
        jobs = [job for job, _ in self.window.withdraw()]
        if jobs:
            self._let_go([_Unbegun(job) for job in jobs])

    def _submit(self, lease: leases.Lease) -> None:
        planner = Planner(clock=self.clock, until=lease.until, using=self.using)
        held, jobs, poison = [], [], []
        for delivery in lease.deliveries:
            try:
                job = planner.plan(delivery)
            except DatabaseError:
                raise
            except Exception:  # One bad row must not stop its neighbours.
                logger.exception("Delivery %s cannot be planned.", delivery.pk)
                poison.append(delivery)
                continue
            if job is None:
                held.append(delivery)
            else:
                jobs.append(job)
        for job in self.pacer.admit(jobs, lease):
            self._subscriptions[job.subscription.pk] = job.subscription
            self.window.submit((job, lease.until), key=job.subscription.pk)
        if held:
            leases.hold(held, using=self.using)
        if poison:
            leases.set_aside(poison, using=self.using)
        if planner.unreadable:
            upkeep.note_unreadable(planner.unreadable, using=self.using)

    def _attempt(self, leased: tuple[Job, datetime]) -> Result | _Unbegun:
        job, until = leased
        now = self.clock()
        try:
            return self._begin(job, until=until, now=now)
        except Exception as error:  # One bad row must not stop its neighbours.
            return attempt.failed(job, error, now=now)

    def _begin(self, job: Job, *, until: datetime, now: datetime) -> Result | _Unbegun:
        if now + timedelta(seconds=job.subscription.attempt_timeout) >= until:
            return _Unbegun(job)
        if self.pacer.is_stale(job, until=until, now=now):
            return _Unbegun(job)
        latest = self._subscriptions[job.subscription.pk]
        if latest is not job.subscription and not job.is_trial:
            # The active endpoint may be another one by now.
            route = self._route(latest, job.delivery)
            if (
                route.endpoint is None
                or not latest.is_active
                or not routes.is_readable(latest, route.endpoint, now=now)
            ):
                return _Unbegun(job, is_held=True)
            job = replace(job, endpoint=route.endpoint, why=route.why)
        return attempt.make(job, now=now)

    def _route(self, subscription: Subscription, delivery: Delivery) -> routes.Route:
        # What was read at one moment has one route, but where each delivery has its own.
        known, route = self._routes.get(subscription.pk, (None, None))
        if known is not subscription or route is None or delivery.endpoint_id:
            route = routes.of(subscription, delivery)
            if not route.is_own:
                self._routes[subscription.pk] = (subscription, route)
        return route

    def _record(self, results: Sequence[Result | _Unbegun]) -> None:
        unbegun = [one for one in results if isinstance(one, _Unbegun)]
        if unbegun:
            self._let_go(unbegun)
        finished = [one for one in results if isinstance(one, Result)]
        if not finished:
            return
        self._unrecorded = finished
        recorded = ledger.record(finished, now=self.clock(), using=self.using)
        self._unrecorded = []
        if recorded.changed:
            self._refresh(recorded.changed)
        if recorded.changed or recorded.released:
            # What was brought forward, or released, is due now.
            self._found = max(self._found, 1)
        entries = recorded.entries
        moments = [one.decision.at for one in entries if isinstance(one.decision, TryAgain)]
        if self._next_at is not None:
            moments.append(self._next_at)
        self._next_at = min(moments, default=None)
        self.drained = replace(self.drained, attempts=self.drained.attempts + len(finished))

    def _let_go(self, unbegun: Sequence[_Unbegun]) -> None:
        """Give back what was not attempted."""
        for one in unbegun:
            if one.job.is_trial:
                routes.end_trial(one.job.endpoint, using=self.using)
        if back := [one.job.delivery for one in unbegun if not one.is_held]:
            leases.give_back(back, now=self.clock(), using=self.using)
        if held := [one.job.delivery for one in unbegun if one.is_held]:
            leases.hold(held, using=self.using)

    def _refresh(self, subscriptions: Set[UUID]) -> None:
        """Read the routes of these subscriptions again."""
        self._refreshed_at = time.monotonic()
        self._subscriptions.update(routes.refresh(subscriptions, using=self.using))


def _is_urgent(result: Result | _Unbegun) -> bool:
    """Say whether a result may end the traffic to its endpoint: it is recorded before the next."""
    return (
        isinstance(result, Result)
        and result.job.doors == 1
        and not result.job.endpoint.is_pinned
        and health.evidence(result) is Evidence.FAILING
    )

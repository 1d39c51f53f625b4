"""Dispatch: lease what is due, attempt it through the executor, record what comes back."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from django.db import DatabaseError, connections

from ...conf import settings
from ...models import Delivery, Event
from ...policies.retry import TryAgain
from .. import attempts, claims, database, health_checks, http
from .. import results as recorder
from ..attempts import Job, Result
from ..claims import Planner, routing
from ..database import carried_on, conflicts
from ..fan_out import fan_out
from . import executor, interrupts
from .executor import Executor, Judgement
from .pacing import Pacer
from .routes import Routes
from .streaks import Streaks

logger = logging.getLogger("django_webhooks.sending")

#: Seconds after which a run takes no more, and another message asks for the rest: long enough for
#: the cost of a message not to matter, and short enough to let other tasks of the queue in.
DRAIN_SECONDS = 10.0
#: Seconds between two looks for results, and for new work while requests are under way.
TICK = 0.02
#: How many times longer than a look took, which found nothing, the next one waits: it reads past a
#: long backlog of who has enough queued here, which must not take the time of sending.
REST = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained:
    """What a run did: attempts recorded, seconds to the earliest retry, whether work is left."""

    attempts: int = 0
    next_in: float | None = None
    is_more_due: bool = False


@dataclass(frozen=True, slots=True)
class _Unstarted:
    """A job that was not attempted: its lease ends too soon, or no endpoint may be called."""

    job: Job
    is_held: bool = False


def drain(
    delivery_ids: Collection[UUID] = (),
    *,
    event_ids: Collection[UUID] = (),
    using: str | None = None,
    clock: Callable[[], datetime] | None = None,
    is_patient: bool = True,
    is_told: bool = False,
) -> Drained:
    """Attempt the deliveries named, then whatever else is due, and return what was done.

    Events that wait for it are fanned out on the way.

    After DRAIN_SECONDS no further work is taken; what is under way ends. While slow
    requests are under way, other work is still taken, so that one receiver does not hold up others.
    Who is patient waits for the next moment of a limited subscription where that is near, and looks
    after endpoints that fell. Who is not attempts what is named, with the deliveries of the events
    named, and nothing else. Who is told expects an event that waits, and does not ask first.

    Requests that were made are recorded whatever ends the run, be it a time limit of Celery
    (SoftTimeLimitExceeded), the end of the process (SystemExit, KeyboardInterrupt) or a database
    that fails; then that is raised.
    """
    with interrupts.held() as let_in:
        using = using or database.alias()
        clock = clock or carried_on(using=using)
        if event_ids:
            fan_out.make_all(using=using)
            theirs = Delivery.objects.using(using).filter(event_id__in=list(event_ids)).due(clock())
            delivery_ids = [*delivery_ids, *theirs.values_list("pk", flat=True)]
            if not (delivery_ids or is_patient):
                return Drained()
        run = _Run(using=using, clock=clock, is_patient=is_patient, named=delivery_ids)
        try:
            if delivery_ids:
                run.take(ids=delivery_ids)
            else:
                run.begin(is_told=is_told)
            run.work(let_in)
        except BaseException as error:
            run.save_results(error)
            raise
        finally:
            run.executor.close()
            run.pacer.end()
    return run.drained


class _Run:
    """One call of :func:`drain`."""

    def __init__(
        self,
        *,
        using: str,
        clock: Callable[[], datetime],
        is_patient: bool = True,
        named: Collection[UUID] = (),
    ) -> None:
        self.using, self.clock = using, clock
        self.is_patient = is_patient
        #: What alone is attempted, where somebody waits for it.
        self.only = named if named and not is_patient else None
        self.drained = Drained()
        self.executor: Executor[tuple[Job, datetime], Result | _Unstarted] = Executor(
            self._attempt,
            size=settings.WEBHOOKS_MAX_IN_FLIGHT,
            per_key=settings.WEBHOOKS_MAX_IN_FLIGHT_PER_ENDPOINT,
            judge=self._judge,
            known=executor.latencies,
        )
        self.pacer = Pacer(self.executor, clock=clock, using=using, is_patient=is_patient)
        self._ends = time.monotonic() + DRAIN_SECONDS
        self._look_again_at = self._fanned_out_at = float("-inf")
        #: Whether the last fan-out left events.
        self._has_events = False
        self._found = 0
        #: Whether the last look for due work passed over some, which may be all that is left.
        self._has_passed_over = False
        self._next_at: datetime | None = None
        self._streaks = Streaks()
        self.routes = Routes(using=using)

    def begin(self, *, is_told: bool = False) -> None:
        """Take what events bring, or else whatever is due, without waiting for anything."""
        self.fan_out(is_told=is_told)
        if self.executor.is_empty:
            self.take()

    def fan_out(self, *, is_told: bool = False) -> None:
        """Make deliveries of events that wait, and take them where nothing else was due."""
        claim, is_idle = None, not self._found
        if is_idle and self.executor.is_empty:
            until = claims.end(self.clock())
            claim = fan_out.Claim(token=uuid4(), until=until, limit=claims.BATCH_SIZE)
        batch = fan_out.make(using=self.using, claim=claim, is_told=is_told)
        self._fanned_out_at, self._has_events = time.monotonic(), batch.is_more
        self._found = max(self._found, len(batch.due) + len(batch.leased))
        if claim and batch.leased:
            self._submit(
                claims.load(batch.leased, token=claim.token, until=claim.until, using=self.using)
            )
        # In a backlog they have their turn like the others.
        if batch.due and is_idle and self._has_room():
            self.take(ids=batch.due[: claims.BATCH_SIZE])

    def work(self, let_in: Callable[[], None]) -> None:
        """Take work where there is room and record what comes back, until all is done.

        ``let_in`` is called where the run may be ended.
        """
        # What was named is under way. Looking for more would compete with it for the processor.
        self._record(self.executor.collect(timeout=TICK))
        while True:
            let_in()
            if self._is_ending():
                self._withdraw()
            if self._is_to_fan_out():
                self.fan_out()
            if self._has_room():
                self.take(ids=self.only)
            self._record(self.executor.collect(timeout=TICK))
            has_news = self.is_patient and health_checks.look(using=self.using, clock=self.clock)
            if has_news or self.routes.are_stale(has_slow=bool(self.executor.slow_keys)):
                self.routes.refresh()
                self._try_recovered()
            if self.executor.is_empty and self._has_passed_over:
                self._found, self._has_passed_over = 1, False
            has_more = bool(self._found) or self._has_events
            if self.executor.is_empty and (self._is_ending() or not has_more):
                if self._is_ending() or not self.pacer.lingers():
                    break
                self._found = 1
        self._sum_up()

    def save_results(self, error: BaseException) -> None:
        """Record what is under way, once more, after something ended the run; take nothing more.

        A result that is not recorded is a request that is repeated.
        """
        connection = connections[self.using]
        if not isinstance(error, DatabaseError) and not connection.in_atomic_block:
            # It may have been interrupted in the middle of a statement.
            connection.close()
        found: dict[int, Result | _Unstarted] = {id(one): one for one in self.executor.unsettled}
        unstarted = [_Unstarted(job) for job, _ in self.executor.withdraw()]
        while not self.executor.is_empty:
            found |= {id(one): one for one in self.executor.collect(timeout=TICK)}
        results = [one for one in found.values() if isinstance(one, Result)]
        unstarted += [one for one in found.values() if isinstance(one, _Unstarted)]
        try:
            if results:
                recorder.record(results, now=self.clock(), using=self.using)
            self._let_go(unstarted)
        except DatabaseError as failure:
            logger.warning("%d attempts could not be recorded: %s", len(results), failure)

    def _sum_up(self) -> None:
        """Say what is left, and when to look again."""
        now, moment = self.clock(), self.pacer.next_moment()
        if moment is not None:
            self._next_at = min(moment, self._next_at or moment)
        due = Delivery.objects.using(self.using).due(now)
        if self._is_ending() and (due.exists() or self._is_event_waiting()):
            self.drained = replace(self.drained, is_more_due=True)
        if self._next_at is not None:
            wait = max(0.0, (self._next_at - now).total_seconds())
            self.drained = replace(self.drained, next_in=wait)

    def _is_event_waiting(self) -> bool:
        return Event.objects.using(self.using).waiting().exists()

    def take(self, *, ids: Collection[UUID] | None = None) -> None:
        """Lease due work and submit it."""
        # What is slow must not delay the others, nor the end; what has enough queued is left to
        # other workers.
        passed_over = self.executor.slow_keys
        if self._is_ending():
            passed_over |= self._known_to_be_slow()
        passed_over |= self.executor.crowded_keys(beyond=claims.BATCH_SIZE // 2)
        began = time.monotonic()
        lease = conflicts.again(
            lambda: claims.take(
                now=self.clock(),
                limit=claims.BATCH_SIZE,
                using=self.using,
                ids=ids,
                except_subscriptions=list(map(_subscription_of, passed_over)),
            ),
            using=self.using,
        )
        # What was named says nothing of what else is due.
        found = lease.found if ids is None or self.only is not None else 1
        self._found, self._has_passed_over = found, bool(passed_over)
        ended = time.monotonic()
        self._look_again_at = ended + max(2 * TICK, REST * (ended - began))
        self._submit(lease)

    def _known_to_be_slow(self) -> set[Hashable]:
        """Return those that would make the end of this run later and later."""
        now = time.monotonic()
        return {
            key for key in self.routes.subscriptions if executor.latencies.is_slow(key, now=now)
        }

    def _is_ending(self) -> bool:
        return time.monotonic() >= self._ends

    def _has_room(self) -> bool:
        # At the end, further work is only taken while slow requests keep this process waiting.
        if self._is_ending() and not self.executor.slow_keys:
            return False
        if self.executor.startable > claims.BATCH_SIZE // 2:
            return False
        # Where nothing was due, look again after a while rather than at every tick.
        return bool(self._found) or time.monotonic() >= self._look_again_at

    def _is_to_fan_out(self) -> bool:
        # Also where this process has no room: other workers may have.
        if self.only is not None or self._is_ending():
            return False
        return self._has_events or time.monotonic() - self._fanned_out_at >= 2 * TICK

    def _withdraw(self) -> None:
        """Give back what would delay the end: what is slow, or all where nothing slow is left."""
        jobs = [job for job, _ in self.executor.withdraw(self.executor.slow_keys or None)]
        if jobs:
            self._let_go([_Unstarted(job) for job in jobs])

    def _submit(self, lease: claims.Lease) -> None:
        if lease.deliveries and (fault := http.fault()):
            # An attempt would come to nothing, and count.
            logger.error("Nothing can be sent: %s", fault)
            claims.set_aside(lease.deliveries, using=self.using)
            return
        planner = Planner(clock=self.clock, until=lease.until, using=self.using)
        planned = planner.plan_all(lease.deliveries)
        for job in self.pacer.admit(planned.jobs, lease):
            self.routes.subscriptions[job.subscription.pk] = job.subscription
            self.executor.submit((job, lease.until), key=_key_of(job))
        if planned.held:
            conflicts.again(lambda: claims.hold(planned.held, using=self.using), using=self.using)
        if planned.poison:
            claims.set_aside(planned.poison, using=self.using)
        if planner.unreadable:
            routing.note_unreadable(planner.unreadable, using=self.using)

    def _attempt(self, leased: tuple[Job, datetime]) -> Result | _Unstarted:
        job, until = leased
        now = self.clock()
        try:
            return self._begin(job, until=until, now=now)
        except Exception as error:  # One bad row must not stop its neighbours.
            return attempts.failed(job, error, now=now)

    def _begin(self, job: Job, *, until: datetime, now: datetime) -> Result | _Unstarted:
        if now + timedelta(seconds=job.subscription.attempt_timeout) >= until:
            return _Unstarted(job)
        if self.pacer.is_stale(job, until=until, now=now):
            return _Unstarted(job)
        renewed = self.routes.renew(job, now=now)
        if renewed is None:
            return _Unstarted(job, is_held=True)
        self._streaks.begin(renewed)
        return attempts.make(renewed, now=now)

    def _record(self, results: Sequence[Result | _Unstarted]) -> None:
        unstarted = [one for one in results if isinstance(one, _Unstarted)]
        if unstarted:
            self._let_go(unstarted)
        finished = [one for one in results if isinstance(one, Result)]
        if not finished:
            self.executor.settle()
            return
        recorded = recorder.record(finished, now=self.clock(), using=self.using)
        self.executor.settle()
        if recorded.changed:
            self.routes.refresh(recorded.changed)
        if recorded.changed or recorded.released:
            # What was brought forward, or released, is due now.
            self._found = max(self._found, 1)
        entries = recorded.entries
        moments = [one.decision.at for one in entries if isinstance(one.decision, TryAgain)]
        if self._next_at is not None:
            moments.append(self._next_at)
        self._next_at = min(moments, default=None)
        self.drained = replace(self.drained, attempts=self.drained.attempts + len(finished))

    def _let_go(self, unstarted: Sequence[_Unstarted]) -> None:
        """Give back what was not attempted."""
        for one in unstarted:
            if one.job.is_trial:
                routing.end_trial(one.job.endpoint, using=self.using)
        if back := [one.job.delivery for one in unstarted if not one.is_held]:
            conflicts.again(
                lambda: claims.give_back(back, now=self.clock(), using=self.using),
                using=self.using,
            )
        if held := [one.job.delivery for one in unstarted if one.is_held]:
            conflicts.again(lambda: claims.hold(held, using=self.using), using=self.using)

    def _try_recovered(self) -> None:
        """Let a delivery that waits here try an endpoint whose health checks succeed again."""
        for subscription in self.routes.awaiting_trial(now=self.clock()):
            waiting = self.executor.withdraw_one(subscription.pk)
            if waiting is None:
                continue
            job, until = waiting
            planner = Planner(clock=self.clock, until=until, using=self.using)
            job.delivery.subscription = subscription
            planned = planner.plan(job.delivery)
            if planned is None:
                self._let_go([_Unstarted(job, is_held=True)])
            else:
                self.executor.submit((planned, until), key=_key_of(planned))

    def _judge(self, result: Result | _Unstarted) -> Judgement:
        return self._streaks.judge(result) if isinstance(result, Result) else Judgement.NEUTRAL


def _key_of(job: Job) -> Hashable:
    """Return what shares the places of a job: its subscription, but for a trial, which is alone.

    It must not wait behind what goes to a slow backup.
    """
    return (job.subscription.pk, "trial") if job.is_trial else job.subscription.pk


def _subscription_of(key: Any) -> UUID:
    found: UUID = key[0] if isinstance(key, tuple) else key
    return found

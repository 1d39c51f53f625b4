"""Pacing: what one run of a worker lets go of limited subscriptions, and what it waits for."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from ...conf import settings
from ...policies.rate import Limits
from .. import claims, limits
from ..attempts import Job
from ..claims import Lease, routing
from .executor import Executor

#: Seconds that a run waits for the moment of a limited subscription rather than end.
LINGER = 1.0
#: Seconds between two looks meanwhile, at the least and at the most.
LOOK = (0.02, 0.1)
#: Seconds after its lease at which a job of a limited rate asks again rather than begin.
STALE = 0.5
#: Part of a second's worth of a limited rate that may be queued here while answers are quick.
QUEUED = 0.2


class Pacer:
    """The limited subscriptions of one run."""

    def __init__(
        self,
        executor: Executor[Any, Any],
        *,
        clock: Callable[[], datetime],
        using: str,
        is_patient: bool,
    ) -> None:
        self.executor, self.clock, self.using = executor, clock, using
        #: Whether the run may wait for a moment that is near.
        self._is_patient = is_patient
        self._run = uuid4()
        #: Those with a limited rate that a job was let go of.
        self._paced: set[UUID] = set()
        #: Those whose next moment this run waits for.
        self._watched: set[UUID] = set()
        self._awaited: tuple[datetime | None, float] = (None, 0.0)

    def admit(self, jobs: Sequence[Job], lease: Lease) -> Sequence[Job]:
        """Return the jobs that the limits of their subscriptions let go now."""
        subscriptions = {job.subscription.pk: job.subscription for job in jobs}
        if not any(one.limits for one in subscriptions.values()):
            return jobs
        admitted = limits.admit(
            jobs, lease, places=self._places, run=self._run, now=self.clock(), using=self.using
        )
        for job in admitted.denied:
            if job.is_trial:
                routing.end_trial(job.endpoint, using=self.using)
        self._watched |= admitted.watched
        self._paced |= {
            job.subscription.pk for job in admitted.go if job.subscription.limits.rate is not None
        }
        return admitted.go

    def is_stale(self, job: Job, *, until: datetime, now: datetime) -> bool:
        """Say whether a job waited here for so long that others went in its turn."""
        if job.subscription.pk not in self._paced:
            return False
        return until - now < timedelta(seconds=settings.WEBHOOKS_LEASE_SECONDS - STALE)

    def next_moment(self) -> datetime | None:
        """Return the next moment of what this run waits for."""
        return limits.next_moment(self._watched, using=self.using) if self._watched else None

    def lingers(self) -> bool:
        """Wait a little where the next moment is near, and say whether it is."""
        if not self._is_patient or not self._watched:
            return False
        moment = self.next_moment()
        if moment != self._awaited[0]:
            self._awaited = (moment, time.monotonic())
        if moment is None and time.monotonic() - self._awaited[1] >= LINGER:
            self.end()
            return False
        # Where there is none, another worker may just have taken the last, and reserves the next.
        left = (moment - self.clock()).total_seconds() if moment is not None else LOOK[1]
        # What is still due after all that time is not for this run.
        if left > LINGER or time.monotonic() - self._awaited[1] > 2 * LINGER:
            return False
        least, most = LOOK
        time.sleep(min(max(left, least), most))
        return True

    def end(self) -> None:
        """Leave the next moments to others."""
        if self._watched:
            limits.stop_pacing(self._run, using=self.using)
        self._watched.clear()

    def _places(self, key: UUID, limit: Limits) -> int:
        """Return how many more requests of a subscription would begin soon in this process."""
        most = settings.WEBHOOKS_MAX_IN_FLIGHT_PER_ENDPOINT
        if key not in self.executor.slow_keys:
            quick = claims.BATCH_SIZE if limit.rate is None else limit.rate * QUEUED
            most = max(most, math.ceil(quick))
        return max(0, most - self.executor.load(key))

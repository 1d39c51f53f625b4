"""Streaks: what a result means for the traffic to its endpoint, by the failures in a row before it.

Answers of several requests at once come in any order, so that failures are in a row in the order in
which their requests began. A request that is still under way between two failures breaks the row,
because nobody knows yet what it brings: else a receiver that refuses one request of four would be
taken for one that is down. One that tells nothing of its endpoint, as 429, neither breaks a row nor
counts.
"""

from __future__ import annotations

import threading
from uuid import UUID

from ...policies.health import Evidence
from ..attempts import Job, Result
from ..results import health
from .executor import Judgement


class Streaks:
    """The failures in a row of each endpoint. Its methods may be called by many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: The last number of each endpoint, and those of the deliveries that are under way.
        self._last: dict[UUID, int] = {}
        self._numbers: dict[UUID, int] = {}
        #: The numbers since an endpoint's last success that are over: 1 for a failure, else 0.
        self._over: dict[UUID, dict[int, int]] = {}

    def begin(self, job: Job) -> None:
        """Note that the request of a job begins."""
        endpoint = job.endpoint.pk
        with self._lock:
            self._last[endpoint] = number = self._last.get(endpoint, 0) + 1
            self._numbers[job.delivery.pk] = number

    def judge(self, result: Result) -> Judgement:
        """Say what a result means for the traffic to its endpoint.

        A result that may end that traffic is recorded before the next request. One failure among
        successes does not, nor leaves it fewer requests: that would slow down a receiver that
        refuses a few.
        """
        job, told = result.job, health.evidence(result)
        failures = self._note(job, told)
        if result.outcome.endpoint_gone:
            return Judgement.URGENT
        if told is Evidence.WELL:
            return Judgement.WELL
        if not told.is_against:
            return Judgement.BAD
        is_alone = job.endpoint_count <= 1 and not job.endpoint.is_pinned
        # Other workers see failures as well: the last but one may be the last.
        if is_alone and (job.is_trial or failures >= job.subscription.health_thresholds.fall - 1):
            return Judgement.URGENT
        return Judgement.BAD if failures > 1 else Judgement.NEUTRAL

    def _note(self, job: Job, told: Evidence) -> int:
        """Return how many requests failed in a row, with this one."""
        with self._lock:
            first = last = self._numbers.pop(job.delivery.pk, 0)
            over = self._over.get(job.endpoint.pk, {})
            if told is Evidence.WELL:
                # Whatever began before it is no row any more.
                over = {number: failed for number, failed in over.items() if number > first}
                self._over[job.endpoint.pk] = over
                return 0
            over[first] = int(told.is_against)
            self._over[job.endpoint.pk] = over
            while first - 1 in over:
                first -= 1
            while last + 1 in over:
                last += 1
            return sum(over[number] for number in range(first, last + 1))

"""Attempt records: what is written of an attempt, and what was decided because of it. No
database."""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID

from ...fields import uuid7
from ...models import Attempt, Delivery, Endpoint
from ...policies import outcome, retry
from ...policies.reasons import Reason
from ...policies.retry import Decision, GiveUp, RetryPolicy, TryAgain
from ..http import Answer
from . import masking
from .attempt import Result

logger = logging.getLogger("django_webhooks.sending")


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRecord:
    """A result with what was decided, and the row that records it."""

    result: Result
    decision: Decision
    attempt: Attempt

    @property
    def delivery(self) -> Delivery:
        """The delivery that was attempted."""
        return self.result.job.delivery

    @property
    def next_endpoint(self) -> UUID | None:
        """The endpoint that the delivery is to be tried at next; None for the active one."""
        delivery = self.delivery
        if isinstance(self.decision, TryAgain) and isinstance(self.decision.to, UUID):
            return self.decision.to
        # The endpoint that a replay was meant for stays; one out of turn is over.
        return delivery.endpoint_id if delivery.replay else None

    def reflect(self, *, now: datetime) -> None:
        """Make the delivery in memory say what its row says now."""
        delivery = self.delivery
        delivery.attempts_made += 1
        delivery.lease_token = None
        delivery.reason = self.result.outcome.reason
        match self.decision:
            case TryAgain(at=at):
                delivery.due_at, delivery.priority = at, Delivery.Priority.RETRY
                delivery.endpoint_id = self.next_endpoint
            case GiveUp(reason=reason):
                delivery.status, delivery.reason = Delivery.Status.GIVEN_UP, reason
                delivery.due_at, delivery.finished_at = None, now
            case _:
                delivery.status = Delivery.Status.SUCCEEDED
                delivery.due_at, delivery.finished_at = None, now


def records_of(results: Sequence[Result], *, now: datetime) -> list[AttemptRecord]:
    """Return the entries of results, with what follows for their deliveries."""
    maskers: dict[Endpoint, masking.Masker] = {}
    return [_entry(result, maskers, now=now) for result in results]


def _entry(
    result: Result, maskers: dict[Endpoint, masking.Masker], *, now: datetime
) -> AttemptRecord:
    job, response = result.job, result.response
    masker = maskers.get(job.endpoint)
    if masker is None:
        masker = maskers[job.endpoint] = masking.masker(job.endpoint, job.subscription)
    said = masker.said(response)
    attempt = Attempt(
        id=uuid7(),
        delivery=job.delivery,
        endpoint_id=job.endpoint.pk,
        endpoint_host=job.endpoint.host,
        number=job.number,
        started_at=result.started_at,
        duration_ms=round(result.duration * 1000),
        outcome=result.outcome.verdict.value,
        reason=result.outcome.reason,
        status_code=response.status if isinstance(response, Answer) else None,
        detail=said.detail,
        response_headers=said.headers,
        response_body=said.body,
    )
    if attempt.reason == Reason.CLOCK and isinstance(response, Answer):
        attempt.detail = _clock(response, now=attempt.started_at)
    return AttemptRecord(result=result, decision=decide(result, now=now), attempt=attempt)


def decide(result: Result, *, now: datetime, free: int = 0) -> Decision:
    """Return what follows for a delivery; ``free`` of its attempts do not count."""
    job = result.job
    follow = partial(
        retry.decide,
        result.outcome,
        attempts=job.number - free,
        recorded_at=job.delivery.event.created_at,
        now=now,
        random=random.random(),  # nosec B311  # jitter is no secret
        endpoint_count=job.endpoint_count,
    )
    try:
        return follow(policy=job.policy)
    except (ArithmeticError, ValueError):
        # Numbers that nothing can be reckoned with must neither repeat a request nor lose a result.
        logger.exception("The retry policy of subscription %s is unusable.", job.subscription.pk)
        return follow(policy=RetryPolicy())


def _clock(response: Answer, *, now: datetime) -> str:
    """Return what is known of how far the two clocks are apart."""
    offset = outcome.clock_offset(response.headers, now=now)
    if offset is None:
        return "The receiver refused the timestamp; compare its clock with the worker's."
    where = "ahead of" if offset > timedelta(0) else "behind"
    return f"The receiver's clock is {abs(offset).total_seconds():.0f} seconds {where} ours."

"""Entries: what is recorded of an attempt, and what was decided because of it. No database."""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from ..conf import settings
from ..fields import uuid7
from ..models import Attempt, Delivery, Endpoint
from ..policies import retry
from ..policies.retry import Decision, GiveUp, RetryPolicy, TryAgain
from . import masking
from .attempt import Result
from .transport import Answer, NoAnswer

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A result with what was decided, and the row that records it."""

    result: Result
    decision: Decision
    attempt: Attempt

    @property
    def delivery(self) -> Delivery:
        """The delivery that was attempted."""
        return self.result.job.delivery

    def reflect(self, *, now: datetime) -> None:
        """Make the delivery in memory say what its row says now."""
        delivery = self.delivery
        delivery.attempts_made += 1
        delivery.lease_token = None
        delivery.reason = self.result.outcome.reason
        match self.decision:
            case TryAgain(at=at):
                delivery.due_at, delivery.priority = at, Delivery.Priority.AGAIN
            case GiveUp(reason=reason):
                delivery.status, delivery.reason = Delivery.Status.GIVEN_UP, reason
                delivery.due_at, delivery.finished_at = None, now
            case _:
                delivery.status = Delivery.Status.SUCCEEDED
                delivery.due_at, delivery.finished_at = None, now


def entries_of(results: Sequence[Result], *, now: datetime) -> list[Entry]:
    """Return the entries of results, with what follows for their deliveries."""
    secrets = _Secrets()
    return [_entry(result, secrets, now=now) for result in results]


class _Secrets(dict[Endpoint, list[str]]):
    """What answers may repeat of each endpoint's secrets, worked out where there is an answer."""

    def __missing__(self, endpoint: Endpoint) -> list[str]:
        self[endpoint] = found = masking.secrets_of(endpoint)
        return found


def _entry(result: Result, secrets: _Secrets, *, now: datetime) -> Entry:
    job, response = result.job, result.response
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
    )
    _fill(attempt, response, secrets=secrets[job.endpoint])
    return Entry(result=result, decision=_decide(result, now=now), attempt=attempt)


def _decide(result: Result, *, now: datetime) -> Decision:
    job = result.job
    decide = partial(
        retry.decide,
        result.outcome,
        attempts=job.number,
        recorded_at=job.delivery.event.created_at,
        now=now,
        random=random.random(),  # nosec B311  # jitter is no secret
        doors=job.doors,
    )
    try:
        return decide(policy=job.policy)
    except (ArithmeticError, ValueError):
        # Numbers that nothing can be reckoned with must neither repeat a request nor lose a result.
        logger.exception("The retry policy of subscription %s is unusable.", job.subscription.pk)
        return decide(policy=RetryPolicy())


def _fill(attempt: Attempt, response: Answer | NoAnswer, *, secrets: list[str]) -> None:
    """Write what the receiver answered, bounded, and without what it repeats of our secrets."""

    def shown(text: str) -> str:
        return _shown(masking.mask(text, secrets))[:500]

    if isinstance(response, NoAnswer):
        attempt.detail = shown(response.detail)
        return
    # Masked before it is cut, since a cut might leave half a secret.
    body = masking.mask(response.body.decode("utf-8", "surrogateescape"), secrets)
    excerpt = body.encode("utf-8", "surrogateescape")[: settings.WEBHOOKS_RESPONSE_EXCERPT_BYTES]
    attempt.status_code = response.status
    attempt.response_body = _shown(excerpt.decode("utf-8", "replace"))
    attempt.response_headers = {
        name[:100]: shown(value) for name, value in list(response.headers.items())[:50]
    }
    if attempt.reason == "redirect":
        location = response.headers.get("location", "")
        attempt.detail = shown(f"Redirects are not followed; it names {location}")


def _shown(text: str) -> str:
    # PostgreSQL stores no NUL.
    return text.replace("\x00", "�")

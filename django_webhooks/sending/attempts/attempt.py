"""One attempt: sign, send, and say what came of it. Touches no database."""

from __future__ import annotations

import logging
import time
from collections.abc import Hashable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.core.exceptions import ValidationError

from ...hiding import forget_variables, without_secrets
from ...models import Delivery, Endpoint, Subscription
from ...policies import outcome as outcomes
from ...policies.outcome import Outcome
from ...policies.reasons import Reason
from ...policies.retry import RetryPolicy
from ...validators import validate_headers
from .. import http, wire
from ..http import Answer, NoAnswer, Trust
from ..wire import tracing
from . import masking

logger = logging.getLogger("django_webhooks.sending")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A leased delivery with the endpoint that its attempt goes to.

    ``why`` says why it goes to a backup. ``endpoint_count`` is how many endpoints one round of
    attempts has.
    """

    delivery: Delivery
    subscription: Subscription
    endpoint: Endpoint
    policy: RetryPolicy
    why: str = ""
    endpoint_count: int = 1
    is_trial: bool = False

    @property
    def number(self) -> int:
        """The 1-based number of the attempt."""
        return self.delivery.attempts_made + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The result of an attempt."""

    job: Job
    started_at: datetime
    duration: float
    response: Answer | NoAnswer
    outcome: Outcome


@tracing.attempted
def make(job: Job, *, now: datetime) -> Result:
    """Send the request of a job at the moment ``now`` and return what it brought. Never raises."""
    began = time.monotonic()
    try:
        response = refusal(job.endpoint) or http.post(
            job.endpoint.url,
            headers=wire.request_headers(job, now=now),
            body=bytes(job.delivery.event.body),
            timeout=job.subscription.attempt_timeout,
            trust=trust(job.endpoint),
            tenant=tenant(job.subscription),
        )
    except Exception as error:  # One bad row must not stop its neighbours.
        return failed(job, error, now=now, duration=time.monotonic() - began)
    duration = time.monotonic() - began
    return Result(
        job=job,
        started_at=now,
        duration=duration,
        response=response,
        outcome=_outcome(response, job, now=now + timedelta(seconds=duration)),
    )


def failed(job: Job, error: Exception, *, now: datetime, duration: float = 0.0) -> Result:
    """Return the result of an attempt that our own error kept from being made."""
    # Whoever reports it reads the variables of its frames, and its message.
    forget_variables(error)
    known = masking.masker(job.endpoint, job.subscription)
    logger.error(
        "Delivery %s cannot be sent.", job.delivery.pk, exc_info=without_secrets(error, known.mask)
    )
    # Its message might quote a secret.
    response = NoAnswer(reason=Reason.INTERNAL, detail=f"{type(error).__name__} in the sender.")
    return Result(
        job=job,
        started_at=now,
        duration=duration,
        response=response,
        outcome=outcomes.of_failure(response.reason),
    )


def refusal(endpoint: Endpoint) -> NoAnswer | None:
    """Return why nothing is sent with the headers of an endpoint, where an old row has bad ones."""
    try:
        validate_headers(endpoint.headers)
    except ValidationError as error:
        return NoAnswer(reason=Reason.BLOCKED, detail=" ".join(error.messages))
    return None


def tenant(subscription: Subscription) -> Hashable:
    """Return whose requests those of a subscription are: its owner's, or its own."""
    return (subscription.owner_type, subscription.owner_id or subscription.pk)


def trust(endpoint: Endpoint) -> Trust:
    """Return who we say we are to an endpoint, and who we believe it is."""
    return Trust(client_certificate=endpoint.client_certificate, ca_bundle=endpoint.ca_bundle)


def _outcome(response: Answer | NoAnswer, job: Job, *, now: datetime) -> Outcome:
    if isinstance(response, NoAnswer):
        return outcomes.of_failure(response.reason)
    return outcomes.of_answer(
        response.status,
        response.headers,
        now=now,
        client_errors_final=job.subscription.client_errors_final,
        statuses=job.subscription.status_policy,
    )

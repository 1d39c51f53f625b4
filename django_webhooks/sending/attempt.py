"""One attempt: choose the endpoint, sign, send, and say what it told. Touches no database."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from datetime import datetime, timedelta

from .. import __version__, signing
from ..fields import uuid7
from ..models import Delivery, Endpoint, Subscription
from ..policies import outcome as outcomes
from ..policies.outcome import Outcome
from ..policies.retry import RetryPolicy
from . import payloads, transport
from .transport import Answer, NoAnswer

logger = logging.getLogger(__name__)

USER_AGENT = f"django-webhooks/{__version__}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A leased delivery with the endpoint that its attempt goes to.

    ``why`` says why it goes to a backup. ``doors`` is how many endpoints one round of attempts has.
    """

    delivery: Delivery
    subscription: Subscription
    endpoint: Endpoint
    policy: RetryPolicy
    why: str = ""
    doors: int = 1
    is_trial: bool = False

    @property
    def number(self) -> int:
        """The 1-based number of the attempt."""
        return self.delivery.attempts_made + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What an attempt brought."""

    job: Job
    started_at: datetime
    duration: float
    response: Answer | NoAnswer
    outcome: Outcome


def make(job: Job, *, now: datetime) -> Result:
    """Send the request of a job at the moment ``now`` and return what it brought. Never raises."""
    began = time.monotonic()
    try:
        response = transport.post(
            job.endpoint.url,
            headers=request_headers(job, now=now),
            body=bytes(job.delivery.event.body),
            timeout=job.subscription.attempt_timeout,
        )
    except Exception as error:  # One bad row must not stop its neighbours.
        # Its message might quote a secret.
        logger.exception("Delivery %s cannot be sent.", job.delivery.pk)
        response = NoAnswer(reason="internal", detail=f"{type(error).__name__} in the sender.")
    duration = time.monotonic() - began
    return Result(
        job=job,
        started_at=now,
        duration=duration,
        response=response,
        outcome=_outcome(response, job, now=now + timedelta(seconds=duration)),
    )


def request_headers(job: Job, *, now: datetime) -> dict[str, str]:
    """Return the headers of the request, signed for the moment ``now``."""
    delivery, endpoint = job.delivery, job.endpoint
    timestamp = int(now.timestamp())
    headers = {
        **endpoint.headers,
        "content-type": "application/json",
        "user-agent": USER_AGENT,
        "webhook-id": delivery.event.message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signing.sign(
            secret=job.subscription.signing_secret,
            message_id=delivery.event.message_id,
            timestamp=timestamp,
            body=bytes(delivery.event.body),
        ),
        "webhook-attempt": str(job.number),
        "webhook-max-attempts": str(job.policy.attempts * job.doors),
    }
    if endpoint.role != "primary":
        headers["webhook-endpoint-role"] = endpoint.role
        headers["webhook-failover-reason"] = job.why
    if delivery.attempts_made and delivery.reason:
        headers["webhook-retry-reason"] = delivery.reason
    return headers | authorization(endpoint)


def credentials(endpoint: Endpoint) -> dict[str, str]:
    """Return the headers that an endpoint wants with each request."""
    return {**endpoint.headers, **authorization(endpoint)}


def authorization(endpoint: Endpoint) -> dict[str, str]:
    """Return the Authorization header, where there is one."""
    return {"authorization": endpoint.authorization} if endpoint.authorization else {}


def ping(
    subscription: Subscription, endpoint: Endpoint, *, now: datetime
) -> tuple[dict[str, str], bytes]:
    """Return headers and body of a signed webhook.ping, which is no event and is not recorded."""
    message_id, timestamp = f"msg_{uuid7()}", int(now.timestamp())
    body = payloads.serialise("webhook.ping", {}, recorded_at=now)
    signature = signing.sign(
        secret=subscription.signing_secret, message_id=message_id, timestamp=timestamp, body=body
    )
    headers = {
        **credentials(endpoint),
        "content-type": "application/json",
        "user-agent": USER_AGENT,
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signature,
    }
    return headers, body


def _outcome(response: Answer | NoAnswer, job: Job, *, now: datetime) -> Outcome:
    if isinstance(response, NoAnswer):
        return outcomes.of_failure(response.reason)
    return outcomes.of_answer(
        response.status,
        response.headers,
        now=now,
        client_errors_final=job.subscription.client_errors_final,
    )

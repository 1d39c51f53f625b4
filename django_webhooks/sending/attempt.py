"""One attempt: choose the endpoint, sign, send, and say what it told. Touches no database."""

from __future__ import annotations

import logging
import time
from collections.abc import Hashable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.core.exceptions import ValidationError

from .. import __version__, signing
from ..exceptions import InvalidSecret
from ..fields import uuid7
from ..models import Delivery, Endpoint, Subscription
from ..policies import outcome as outcomes
from ..policies.outcome import Outcome
from ..policies.retry import RetryPolicy
from ..validators import validate_headers
from . import hops, payloads, tracing, transport
from .transport import Answer, NoAnswer, Trust

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


@tracing.attempted
def make(job: Job, *, now: datetime) -> Result:
    """Send the request of a job at the moment ``now`` and return what it brought. Never raises."""
    began = time.monotonic()
    try:
        response = refusal(job.endpoint) or transport.post(
            job.endpoint.url,
            headers=request_headers(job, now=now),
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
    logger.error("Delivery %s cannot be sent.", job.delivery.pk, exc_info=error)
    # Its message might quote a secret.
    response = NoAnswer(reason="internal", detail=f"{type(error).__name__} in the sender.")
    return Result(
        job=job,
        started_at=now,
        duration=duration,
        response=response,
        outcome=outcomes.of_failure(response.reason),
    )


def request_headers(job: Job, *, now: datetime) -> dict[str, str]:
    """Return the headers of the request, signed for the moment ``now``."""
    delivery, endpoint = job.delivery, job.endpoint
    timestamp = int(now.timestamp())
    headers = {
        **endpoint.headers,
        "content-type": "application/json",
        "user-agent": USER_AGENT,
        "webhook-id": delivery.message_id,
        "webhook-timestamp": str(timestamp),
        **signatures(
            job.subscription,
            message_id=delivery.message_id,
            now=now,
            body=bytes(delivery.event.body),
        ),
        "webhook-attempt": str(job.number),
        "webhook-max-attempts": str(job.policy.attempts * job.doors),
    }
    if delivery.event.hops:
        headers[hops.HEADER] = str(delivery.event.hops)
    if endpoint.role != "primary":
        headers["webhook-endpoint-role"] = endpoint.role
        headers["webhook-failover-reason"] = job.why
    if delivery.attempts_made and delivery.reason:
        headers["webhook-retry-reason"] = delivery.reason
    return headers | tracing.headers(job.subscription) | authorization(endpoint)


def refusal(endpoint: Endpoint) -> NoAnswer | None:
    """Return why nothing is sent with the headers of an endpoint, where an old row has bad ones."""
    try:
        validate_headers(endpoint.headers)
    except ValidationError as error:
        return NoAnswer(reason="blocked", detail=" ".join(error.messages))
    return None


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
    headers = {
        **credentials(endpoint),
        "content-type": "application/json",
        "user-agent": USER_AGENT,
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        **signatures(subscription, message_id=message_id, now=now, body=body),
    }
    return headers, body


def signatures(
    subscription: Subscription, *, message_id: str, now: datetime, body: bytes
) -> dict[str, str]:
    """Return the headers that sign a request with each key of the moment ``now``.

    A receiver verifies with whichever it knows. Raise InvalidSecret where a key is malformed.
    """
    timestamp = int(now.timestamp())
    secrets = [key.secret for key in subscription.keys_at(now)]
    if not secrets:
        raise InvalidSecret("The subscription has no signing key; rotate it.")
    made = [
        signing.sign(secret=one, message_id=message_id, timestamp=timestamp, body=body)
        for one in secrets
    ]
    headers = {"webhook-signature": " ".join(made)}
    shared = [one for one in secrets if signing.kind_of(one) == signing.HMAC]
    match subscription.signature_style if shared else "":
        case Subscription.SignatureStyle.GITHUB:
            # There is room for one: the receiver's, until that has expired.
            headers["x-hub-signature-256"] = signing.github(secret=shared[-1], body=body)
        case Subscription.SignatureStyle.STRIPE:
            value = signing.stripe(secrets=shared, timestamp=timestamp, body=body)
            headers["stripe-signature"] = value
    return headers


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
    )

"""The headers of requests: what identifies, signs and authorizes them."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from ... import __version__, signing
from ...exceptions import InvalidSecret
from ...fields import uuid7
from ...models import Endpoint, Subscription
from . import loops, payloads, tracing

if TYPE_CHECKING:
    from ..attempts import Job

USER_AGENT = f"django-webhooks/{__version__}"


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
        # One that is tried at another endpoint before it is given up has one attempt more.
        "webhook-max-attempts": str(max(job.policy.attempts * job.endpoint_count, job.number)),
    }
    if delivery.event.hops:
        headers[loops.HEADER] = str(delivery.event.hops)
    if endpoint.role != "primary":
        headers["webhook-endpoint-role"] = endpoint.role
        headers["webhook-failover-reason"] = str(job.why)
    if delivery.attempts_made and delivery.reason:
        headers["webhook-retry-reason"] = str(delivery.reason)
    return headers | tracing.headers(job.subscription) | authorization(endpoint)


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

"""Signals of django_webhooks, each sent with ``send_robust`` once its transaction has committed."""

from __future__ import annotations

import logging
from typing import Any

from django.dispatch import Signal, receiver

logger = logging.getLogger(__name__)

#: An event and its deliveries were committed.
#: Arguments: event (Event), deliveries (list of Delivery).
event_recorded = Signal()

#: One HTTP request of a delivery ended and was recorded.
#: Arguments: attempt (Attempt), delivery (Delivery).
attempt_finished = Signal()

#: A delivery arrived. Arguments: delivery (Delivery), attempt (Attempt).
delivery_succeeded = Signal()

#: A delivery is not tried again; it is kept and can be replayed.
#: Arguments: delivery (Delivery), attempt (Attempt or None).
delivery_given_up = Signal()

#: An endpoint was disabled because its receiver said it is gone.
#: Arguments: endpoint (Endpoint), reason (str).
endpoint_disabled = Signal()

#: An endpoint failed so often that it is not called any more.
#: Arguments: endpoint (Endpoint), reason (str).
endpoint_unhealthy = Signal()

#: An endpoint that was unhealthy took a delivery again. Arguments: endpoint (Endpoint).
endpoint_recovered = Signal()

#: The active endpoint of a subscription changed.
#: Arguments: subscription (Subscription), switch (Switch).
subscription_switched = Signal()

#: A subscription was disabled, because all its endpoints failed for WEBHOOKS_DISABLE_AFTER.
#: Arguments: subscription (Subscription), reason (str).
subscription_disabled = Signal()

#: A received message is not handled again by itself; it is kept and can be replayed.
#: Arguments: message (InboxMessage).
message_given_up = Signal()


# The log: one line for each change of state, written by receivers of the signals above, so that the
# work is not interleaved with it.


@receiver(attempt_finished)
def _log_retry(*, attempt: Any, delivery: Any, **kwargs: Any) -> None:
    if attempt.outcome == "retry" and not delivery.is_over:
        logger.warning(
            "Delivery %s: attempt %d failed (%s), it will be tried again.",
            delivery.pk,
            attempt.number,
            attempt.reason,
            extra=_extra(delivery, attempt),
        )


@receiver(delivery_succeeded)
def _log_success(*, delivery: Any, attempt: Any, **kwargs: Any) -> None:
    logger.info(
        "Delivery %s arrived on attempt %d.",
        delivery.pk,
        attempt.number,
        extra=_extra(delivery, attempt),
    )


@receiver(delivery_given_up)
def _log_end(*, delivery: Any, attempt: Any, **kwargs: Any) -> None:
    logger.error(
        "Delivery %s is given up (%s).",
        delivery.pk,
        delivery.reason,
        extra=_extra(delivery, attempt),
    )


@receiver(endpoint_disabled)
def _log_disabled(*, endpoint: Any, reason: str, **kwargs: Any) -> None:
    logger.error(
        "Endpoint %s is disabled (%s).",
        endpoint.pk,
        reason,
        extra={"webhooks_endpoint": str(endpoint.pk), "webhooks_reason": reason},
    )


@receiver(endpoint_unhealthy)
def _log_unhealthy(*, endpoint: Any, reason: str, **kwargs: Any) -> None:
    logger.warning(
        "Endpoint %s is unhealthy (%s).",
        endpoint.pk,
        reason,
        extra={"webhooks_endpoint": str(endpoint.pk), "webhooks_reason": reason},
    )


@receiver(endpoint_recovered)
def _log_recovered(*, endpoint: Any, **kwargs: Any) -> None:
    logger.info(
        "Endpoint %s is healthy again.",
        endpoint.pk,
        extra={"webhooks_endpoint": str(endpoint.pk)},
    )


@receiver(subscription_switched)
def _log_switch(*, subscription: Any, switch: Any, **kwargs: Any) -> None:
    logger.log(
        logging.ERROR if switch.to_endpoint_id is None else logging.WARNING,
        "Subscription %s switched from endpoint %s to %s (%s: %s).",
        subscription.pk,
        switch.from_endpoint_id,
        switch.to_endpoint_id,
        switch.cause,
        switch.reason,
        extra={"webhooks_subscription": str(subscription.pk), "webhooks_reason": switch.reason},
    )


@receiver(subscription_disabled)
def _log_subscription_disabled(*, subscription: Any, reason: str, **kwargs: Any) -> None:
    logger.error(
        "Subscription %s is disabled (%s).",
        subscription.pk,
        reason,
        extra={"webhooks_subscription": str(subscription.pk), "webhooks_reason": reason},
    )


@receiver(message_given_up)
def _log_message(*, message: Any, **kwargs: Any) -> None:
    logger.error(
        "Received message %s is given up on attempt %d.",
        message.pk,
        message.attempts_made,
        extra={"webhooks_message": str(message.pk), "webhooks_source": message.source},
    )


def _extra(delivery: Any, attempt: Any) -> dict[str, Any]:
    return {
        "webhooks_delivery": str(delivery.pk),
        "webhooks_attempt": attempt.number if attempt else None,
        "webhooks_reason": delivery.reason,
    }

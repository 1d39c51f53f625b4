"""Signals of django_webhooks, each sent with ``send_robust`` once its transaction has committed."""

from __future__ import annotations

import logging
from typing import Any

from django.dispatch import Signal, receiver

__all__ = [
    "attempt_finished",
    "delivery_given_up",
    "delivery_succeeded",
    "endpoint_disabled",
    "endpoint_recovered",
    "endpoint_unhealthy",
    "event_fanned_out",
    "event_recorded",
    "site_not_well",
    "site_well",
    "subscription_disabled",
    "subscription_readable",
    "subscription_switched",
    "subscription_unreadable",
]

logger = logging.getLogger("django_webhooks.sending")
health = logging.getLogger("django_webhooks.health")

#: An event was committed, in the process that emitted it. Arguments: event (Event).
event_recorded = Signal()

#: A worker made deliveries of an event; of an event that very many hear, in several parts.
#: Arguments: event (Event), deliveries (list of Delivery).
event_fanned_out = Signal()

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

#: A subscription was disabled, because all its endpoints failed for WEBHOOKS_DISABLE_AFTER_SECONDS,
#: or because its owner was deleted.
#: Arguments: subscription (Subscription), reason (str).
subscription_disabled = Signal()

#: The URLs or keys of a subscription do not open; its deliveries wait.
#: Arguments: subscription (Subscription).
subscription_unreadable = Signal()

#: They open again. Arguments: subscription (Subscription).
subscription_readable = Signal()

#: Workers or beat do not run, cannot keep up, or keys are missing. Arguments: subject (``beat``,
#: ``worker``, ``backlog`` or ``keys``), detail (dict with problem, sentence and advice).
site_not_well = Signal()

#: What was not well is well again. Arguments: subject, detail.
site_well = Signal()


# The log: one line for each change of state, written by receivers of the signals above, so that the
# work is not interleaved with it.


@receiver(attempt_finished)
def _log_retry(*, attempt: Any, delivery: Any, **kwargs: Any) -> None:
    if attempt.outcome == "retry" and not delivery.is_over:
        logger.warning(
            "Delivery %s %s: attempt %d at %s failed (%s), it will be tried again.",
            delivery.pk,
            _to(delivery),
            attempt.number,
            attempt.endpoint_host,
            _why(attempt),
            extra=_extra(delivery, attempt),
        )


@receiver(delivery_succeeded)
def _log_success(*, delivery: Any, attempt: Any, **kwargs: Any) -> None:
    logger.info(
        "Delivery %s %s arrived at %s on attempt %d.",
        delivery.pk,
        _to(delivery),
        attempt.endpoint_host,
        attempt.number,
        extra=_extra(delivery, attempt),
    )


@receiver(delivery_given_up)
def _log_end(*, delivery: Any, attempt: Any, **kwargs: Any) -> None:
    logger.error(
        "Delivery %s %s is given up (%s).",
        delivery.pk,
        _to(delivery),
        delivery.reason,
        extra=_extra(delivery, attempt),
    )


@receiver(endpoint_disabled)
def _log_disabled(*, endpoint: Any, reason: str, **kwargs: Any) -> None:
    health.error(
        "Endpoint %s is disabled (%s).",
        _named(endpoint),
        reason,
        extra={"webhooks_endpoint": str(endpoint.pk), "webhooks_reason": reason},
    )


@receiver(endpoint_unhealthy)
def _log_unhealthy(*, endpoint: Any, reason: str, **kwargs: Any) -> None:
    health.warning(
        "Endpoint %s is unhealthy (%s).",
        _named(endpoint),
        reason,
        extra={"webhooks_endpoint": str(endpoint.pk), "webhooks_reason": reason},
    )


@receiver(endpoint_recovered)
def _log_recovered(*, endpoint: Any, **kwargs: Any) -> None:
    health.info(
        "Endpoint %s is healthy again.",
        _named(endpoint),
        extra={"webhooks_endpoint": str(endpoint.pk)},
    )


@receiver(subscription_switched)
def _log_switch(*, subscription: Any, switch: Any, **kwargs: Any) -> None:
    health.log(
        logging.ERROR if switch.to_endpoint_id is None else logging.WARNING,
        "Subscription %r (%s) switched from %s to %s (%s: %s).",
        subscription.name,
        subscription.pk,
        _place(switch.from_host, switch.from_endpoint_id),
        _place(switch.to_host, switch.to_endpoint_id),
        switch.cause,
        switch.reason,
        extra={"webhooks_subscription": str(subscription.pk), "webhooks_reason": switch.reason},
    )


@receiver(subscription_disabled)
def _log_subscription_disabled(*, subscription: Any, reason: str, **kwargs: Any) -> None:
    health.error(
        "Subscription %r (%s) is disabled (%s).",
        subscription.name,
        subscription.pk,
        reason,
        extra={"webhooks_subscription": str(subscription.pk), "webhooks_reason": reason},
    )


@receiver(site_not_well)
def _log_site(*, subject: str, detail: Any, **kwargs: Any) -> None:
    health.error(
        "The site is not well (%s): %s %s",
        subject,
        detail["sentence"],
        detail["advice"],
        extra={"webhooks_problem": detail["problem"]},
    )


@receiver(site_well)
def _log_site_well(*, subject: str, **kwargs: Any) -> None:
    health.info("The site is well again (%s).", subject)


# Names are what people read at night, ids what they search by; repr writes control characters out.


def _to(delivery: Any) -> str:
    """Return whose delivery it is; asks no database."""
    known = getattr(delivery, "_state", None)
    subscription = known.fields_cache.get("subscription") if known is not None else None
    return f"to {subscription.name!r}" if subscription is not None else "to nobody known"


def _named(endpoint: Any) -> str:
    subscription = endpoint._state.fields_cache.get("subscription")
    whose = f" of {subscription.name!r}" if subscription is not None else ""
    return f"{endpoint.pk} ({endpoint.label}{whose})"


def _place(host: str, key: Any) -> str:
    return f"{host} ({key})" if key else "none"


def _why(attempt: Any) -> str:
    """Return the reason; with its cure where the reason is a setting or a fault of ours."""
    if attempt.reason in ("blocked", "internal", "proxy") and attempt.detail:
        return f"{attempt.reason}: {attempt.detail}"
    return str(attempt.reason)


def _extra(delivery: Any, attempt: Any) -> dict[str, Any]:
    return {
        "webhooks_delivery": str(delivery.pk),
        "webhooks_attempt": attempt.number if attempt else None,
        "webhooks_reason": delivery.reason,
    }

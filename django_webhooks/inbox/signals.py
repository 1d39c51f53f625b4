"""Signals about received messages, for receivers of the project."""

from __future__ import annotations

import logging
from typing import Any

from django.dispatch import Signal, receiver

__all__ = ["message_given_up"]

logger = logging.getLogger("django_webhooks.inbox")

#: A received message is not handled again by itself; it is kept and can be replayed.
#: Arguments: message (InboxMessage).
message_given_up = Signal()


@receiver(message_given_up)
def _log_message(*, message: Any, **kwargs: Any) -> None:
    logger.error(
        "Received message %s is given up on attempt %d.",
        message.pk,
        message.attempts_made,
        extra={"webhooks_message": str(message.pk), "webhooks_source": message.source},
    )

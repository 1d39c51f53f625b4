"""Tell workers of received messages; who asks never waits for the broker, nor fails."""

from __future__ import annotations

import logging
from uuid import UUID

from ..tasks import project_app
from ..wakeups import Eagerness, Waker
from . import tasks

logger = logging.getLogger("django_webhooks.wakeups")


def tell_of_message(key: UUID) -> None:
    """Tell a worker of a received message. Returns at once and never raises."""
    try:
        if _is_eager(project_app()):
            tasks.handle.delay([str(key)])
        else:
            _waker.wake([str(key)])
    except Exception:
        logger.exception("No worker could be told of received message %s.", key)


def _publish(message_ids: list[str]) -> None:
    tasks.handle.apply_async((message_ids,), retry=False)


_is_eager = Eagerness()
_waker = Waker(_publish)

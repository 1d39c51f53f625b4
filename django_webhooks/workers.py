"""Tell workers that there is something to do; who asks never waits for the broker, nor fails."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from uuid import UUID

from . import tasks
from .sending.eagerness import Eagerness
from .sending.waking import Waker

logger = logging.getLogger(__name__)


def begin_replay(bulk_replay_id: str) -> None:
    """Tell a worker to begin a bulk replay. Never raises: the sweep finds it as well."""
    try:
        tasks.replay.apply_async((bulk_replay_id,), retry=False)
    except Exception:
        logger.exception("No worker could be told of bulk replay %s.", bulk_replay_id)


def wake(delivery_ids: Sequence[str]) -> None:
    """Tell a worker to look now. Returns at once and never raises."""
    try:
        if _is_eager(tasks.project_app()):
            tasks.deliver.delay(list(delivery_ids))
        else:
            _waker.wake(list(delivery_ids))
    except Exception:
        logger.exception("No worker could be told of %d deliveries.", len(delivery_ids))


def tell_of_message(key: UUID) -> None:
    """Tell a worker of a received message. Returns at once and never raises."""
    try:
        if _is_eager(tasks.project_app()):
            tasks.handle.delay([str(key)])
        else:
            _inbox_waker.wake([str(key)])
    except Exception:
        logger.exception("No worker could be told of received message %s.", key)


def _publish(delivery_ids: list[str]) -> None:
    tasks.deliver.apply_async((delivery_ids,), retry=False)


def _publish_messages(message_ids: list[str]) -> None:
    tasks.handle.apply_async((message_ids,), retry=False)


_is_eager = Eagerness()
_waker = Waker(_publish)
_inbox_waker = Waker(_publish_messages)

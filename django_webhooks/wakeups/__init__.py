"""Tell workers that there is something to do; who asks never waits for the broker, nor fails."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from .. import tasks
from ..models import Event
from .eagerness import Eagerness
from .publisher import Waker

logger = logging.getLogger("django_webhooks.wakeups")


def begin_replay(bulk_replay_id: str) -> None:
    """Tell a worker to begin a bulk replay. Never raises: the sweep finds it as well."""
    try:
        tasks.replay.apply_async((bulk_replay_id,), retry=False)
    except Exception:
        logger.exception("No worker could be told of bulk replay %s.", bulk_replay_id)


def wake(delivery_ids: Sequence[str] = ()) -> None:
    """Tell a worker to look now, at these or at whatever is due.

    Returns at once and never raises.
    """
    try:
        if _is_eager(tasks.project_app()):
            tasks.deliver.delay(list(delivery_ids))
        else:
            _waker.wake(list(delivery_ids))
    except Exception:
        logger.exception("No worker could be told of %d deliveries.", len(delivery_ids))


def wake_for_events(events: Sequence[Event]) -> None:
    """Tell a worker to fan out what was recorded. Returns at once and never raises."""
    try:
        if _is_eager(tasks.project_app()):
            # Nobody else does it, and who emits waits for these alone.
            tasks.deliver.delay([], event_ids=[str(one.pk) for one in events])
        else:
            _waker.wake()
    except Exception:
        logger.exception("No worker could be told of %d events.", len(events))


def _publish(delivery_ids: list[str]) -> None:
    tasks.deliver.apply_async((delivery_ids,) if delivery_ids else (), retry=False)


_is_eager = Eagerness()
_waker = Waker(_publish)

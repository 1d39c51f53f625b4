"""Hints: messages that tell a worker to look without saying at what, and when one is needless.

While more is due than workers send, each run asks for the next, and each sweep for a few more. If
all of them were run, their number would grow for as long as the backlog lasts, and the sweep and
the health checks would wait behind them. So a hint that no free worker took at once does nothing
where another run goes on: that run asks for its own next one. Where none does, as in a queue that
other tasks fill, a late hint is as good as any.

What names deliveries is no hint, and neither is a retry, which has a moment of its own. A message
without the header is of another release. Moments are the database's: clocks of workers may differ.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from ...models.figures.heartbeat import EVERY, Heartbeat
from ..database import carried_on
from . import dispatch

#: Header of the message: seconds since 1970 at which it was sent.
HEADER = "webhooks_hint"
#: Seconds within which a free worker takes a hint.
FRESH = 5.0


def headers(*, using: str) -> dict[str, Any]:
    """Return the headers of a hint that is sent now."""
    return {HEADER: carried_on(using=using)().timestamp()}


def is_needless(sent: Any, task: str, *, using: str) -> bool:
    """Say whether a hint of that moment does nothing.

    ``task`` is the heartbeat of the runs that it asks for. What is no number is no moment: that
    hint is heeded.
    """
    if not isinstance(sent, int | float):
        return False
    now = carried_on(using=using)()
    # One of a moment to come was sent before a clock was set back.
    if not now.timestamp() - sent > FRESH:
        return False
    lasts = timedelta(seconds=dispatch.DRAIN_SECONDS + EVERY)
    heartbeats = Heartbeat.objects.using(using).filter(pk=task)
    return heartbeats.filter(at__gt=now - lasts, at__lte=now + lasts).exists()

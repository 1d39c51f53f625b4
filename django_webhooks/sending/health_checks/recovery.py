"""Recovery: a run that lasts sees to it that endpoints that fell are checked when that is due.

Health checks have a queue of their own. Where no process is free to take them, because one
worker consumes all queues and each of its processes sends, they would wait for the end of a run,
which may wait for slow receivers. So a run looks twice a second whether the check of an endpoint
that fell is due, and has a thread make those that are. Where checks come in time there are none.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import datetime

from django.db import connections

from ... import process_state
from ..database import persistent_connection
from . import probes

logger = logging.getLogger("django_webhooks.health")

#: Seconds between two looks of a process.
EVERY = 0.5


class _Checker:
    """Makes the checks of one process in one thread at a time."""

    def __init__(self) -> None:
        self._lock: threading.Lock
        self._looked_at: float
        self._has_news: bool
        self.forget()

    def forget(self) -> None:
        """Know of no check; a child does not inherit the thread of its parent."""
        self._lock = threading.Lock()
        self._looked_at = time.monotonic()
        self._has_news = False

    def look(self, *, using: str, clock: Callable[[], datetime]) -> bool:
        """Begin checks that are due; return whether some ended since the last look."""
        has_news, self._has_news = self._has_news, False
        now = time.monotonic()
        if now - self._looked_at < EVERY or self._lock.locked():
            return has_news
        self._looked_at = now
        lock = self._lock
        if probes.are_due(using=using, now=clock()) and lock.acquire(blocking=False):
            work = threading.Thread(
                target=self._check, args=(using, lock), name="webhooks-recovery", daemon=True
            )
            work.start()
        return has_news

    def _check(self, using: str, lock: threading.Lock) -> None:
        try:
            with persistent_connection.autocommitting(using=using):
                probes.check_all(using=using, only_fallen=True)
            self._has_news = True
        except Exception:  # The next look, or the next health check, tries again.
            logger.exception("Endpoints that fell could not be checked.")
        finally:
            connections[using].close()
            lock.release()


checker = process_state.remember(_Checker(), forget=_Checker.forget)
#: See :meth:`_Checker.look`.
look = checker.look

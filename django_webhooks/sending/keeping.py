"""Connections that outlive a task, where CONN_MAX_AGE says that they may.

Celery closes the connections of Django before and after each task, whatever CONN_MAX_AGE says. A
new one costs several milliseconds, on an idle system more than all else between a commit and the
request.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

#: Seconds without use after which a connection is tried before it is used; what fails sooner fails
#: the task, which Celery runs again.
TRUSTED = 5.0
#: By alias and process: a child must not use what it inherits.
_kept: dict[tuple[str, int], tuple[float, BaseDatabaseWrapper]] = {}


@contextmanager
def connection(*, using: str) -> Iterator[None]:
    """Run the block on the connection that the block before it had, where that still works.

    Only in the main thread, which is where workers of the pools prefork and solo run their tasks:
    other threads come and go. A thread that is connected stays so, and what fails is not kept.
    """
    if (
        connections[using].connection is not None
        or connections[using].settings_dict["CONN_MAX_AGE"] == 0
        or threading.current_thread() is not threading.main_thread()
    ):
        yield
        return
    _take_out(using)
    yield
    _put_aside(using)


def _take_out(using: str) -> None:
    since, wrapper = _kept.pop((using, os.getpid()), (0.0, None))
    if wrapper is None:
        return
    wrapper.close_if_unusable_or_obsolete()
    # The server may have been restarted since, which an idle connection does not notice.
    is_idle = time.monotonic() - since >= TRUSTED
    if wrapper.connection is not None and is_idle and not wrapper.is_usable():
        wrapper.close()
    connections[using] = wrapper


def _put_aside(using: str) -> None:
    wrapper = connections[using]
    if wrapper.connection is not None:
        del connections[using]
        _kept[using, os.getpid()] = (time.monotonic(), wrapper)

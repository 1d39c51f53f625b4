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

from ... import process_state

#: Seconds without use after which a connection is tried before it is used; what fails sooner fails
#: the task, which Celery runs again.
TRUSTED = 5.0
#: By alias and process: a child must not use what it inherits.
_kept: dict[tuple[str, int], tuple[float, BaseDatabaseWrapper]] = {}


def _close() -> None:
    for key in [one for one in _kept if one[1] == os.getpid()]:
        _kept.pop(key)[1].close()


# A child lets them be: the end of an object would end the connection of its parent.
process_state.register(_close, after_fork=None)


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
        with autocommitting(using=using):
            yield
        return
    _take_out(using)
    with autocommitting(using=using):
        yield
    _put_aside(using)


@contextmanager
def autocommitting(*, using: str) -> Iterator[None]:
    """Let what is written in the block be committed, though the project commits by hand.

    For ``AUTOCOMMIT: False`` in DATABASES. A transaction that is open is its opener's to end.
    """
    wrapper = connections[using]
    options = wrapper.settings_dict
    if options["AUTOCOMMIT"] or wrapper.in_atomic_block:
        yield
        return
    # This wrapper's alone: others read what the project set. A new connection reads it too.
    wrapper.settings_dict = {**options, "AUTOCOMMIT": True}
    if wrapper.connection is not None:
        wrapper.set_autocommit(True)
    try:
        yield
    finally:
        wrapper.settings_dict = options
        if wrapper.connection is not None:
            wrapper.set_autocommit(False)


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

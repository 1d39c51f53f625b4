"""Pulses: tasks say that they run, as seldom as tells whether beat and workers are alive."""

from __future__ import annotations

import logging
import time

from django.db import DatabaseError

from ..models import Pulse
from . import outbox

logger = logging.getLogger(__name__)

#: Seconds within which a process says it once.
EVERY = 5.0

_said: dict[str, float] = {}


def beat(name: str, *, using: str | None = None) -> None:
    """Say that a task runs. Never raises: its work matters more than that it is seen."""
    now = time.monotonic()
    if now - _said.get(name, float("-inf")) < EVERY:
        return
    _said[name] = now
    try:
        Pulse.objects.using(using or outbox.database()).beat(name)
    except DatabaseError as error:
        logger.warning("The pulse of %s could not be recorded: %s", name, error)

"""The run of a worker: the pool of requests is kept full."""

from __future__ import annotations

from .dispatch import DRAIN_SECONDS, Drained, drain
from .interrupts import held

__all__ = ["DRAIN_SECONDS", "Drained", "drain", "held"]

"""Health checks: endpoints are probed, brought back, and disabled in the end."""

from __future__ import annotations

from .probes import PROBE_SECONDS, check_all
from .recovery import look
from .round import run

__all__ = ["PROBE_SECONDS", "check_all", "look", "run"]

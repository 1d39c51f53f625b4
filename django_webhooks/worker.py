"""The run of a worker, for projects that run none: :func:`drain` sends what is due."""

from __future__ import annotations

from .sending.worker import Drained, drain

__all__ = ["Drained", "drain"]

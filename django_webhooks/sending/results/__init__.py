"""Results of attempts, in one transaction: for deliveries and for endpoints."""

from __future__ import annotations

from .recorder import FAILURES, record

__all__ = ["FAILURES", "record"]

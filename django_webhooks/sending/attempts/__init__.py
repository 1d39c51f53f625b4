"""One attempt: its request is sent, and its result is told. No database."""

from __future__ import annotations

from .attempt import Job, Result, failed, make, refusal, tenant, trust
from .attempt_records import AttemptRecord
from .masking import Said, masker

__all__ = [
    "AttemptRecord",
    "Job",
    "Result",
    "Said",
    "failed",
    "make",
    "masker",
    "refusal",
    "tenant",
    "trust",
]

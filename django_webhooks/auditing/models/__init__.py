"""The tables of audits: the trail and its head, reports, and findings that are accepted."""

from __future__ import annotations

from .accepted_finding import AcceptedFinding
from .audit_entry import AuditEntry
from .audit_head import AuditHead
from .audit_report import AuditReport

__all__ = ["AcceptedFinding", "AuditEntry", "AuditHead", "AuditReport"]

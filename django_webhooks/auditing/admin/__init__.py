"""The audit trail, reports of audits, and accepted findings in Django's admin."""

from __future__ import annotations

from .accepted_finding import AcceptedFindingAdmin
from .audit_entry import AuditEntryAdmin
from .audit_report import AuditReportAdmin

__all__ = ["AcceptedFindingAdmin", "AuditEntryAdmin", "AuditReportAdmin"]

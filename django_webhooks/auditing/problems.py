"""Problems of the health report that audits find."""

from __future__ import annotations

from collections.abc import Iterator

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from .. import times
from ..sending.figures.health_report import Kind, Problem
from .models import AuditReport

#: Findings of audits that the health report tells by itself.
TOLD_HERE = frozenset({"webhooks.A020", "webhooks.A024"})


def severe(*, using: str) -> Iterator[Problem]:
    """Yield a problem where the last report has severe findings that nobody accepted."""
    last = AuditReport.objects.using(using).latest_first().first()
    if last is None:
        return
    found = [
        one
        for one in last.findings
        if one["severity"] == "severe" and not one["accepted"] and one["id"] not in TOLD_HERE
    ]
    if found:
        yield Problem(
            kind=Kind.AUDIT,
            subject="audit",
            sentence=ngettext(
                "The audit of %(time)s has %(count)d severe finding that nobody accepted.",
                "The audit of %(time)s has %(count)d severe findings that nobody accepted.",
                len(found),
            )
            % {"time": times.written(last.created_at), "count": len(found)},
            advice=_("Run 'manage.py webhooks_audit', and do what it says: docs/howto/audit.md."),
            count=len(found),
        )

"""Renderings of a report: text, JSON, and a page of HTML that needs nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable

from django.template.loader import render_to_string
from django.utils.translation import gettext as _

from .finding import Severity
from .models import AuditReport


def text(report: AuditReport) -> str:
    """Return it as text, a few lines for each finding."""
    lines = [heading(report), ""]
    for one in report.findings:
        lines.append(f"{label(one['severity'])}  {one['id']}  {one['subject']}")
        lines.append(f"    {one['sentence']}")
        if (by := one["accepted"]) is not None:
            words = _("Accepted until %(until)s by %(by)s: %(reason)s")
            lines.append(f"    {words % {**by, 'until': by['until'][:10]}}")
        else:
            lines.append(f"    {one['advice']}")
    lines += ["", chain(report)]
    return "\n".join(lines) + "\n"


def as_json(report: AuditReport) -> str:
    """Return it as JSON."""
    told = {
        "created_at": report.created_at.isoformat(),
        "by": report.by,
        "counts": report.counts,
        "chain": report.chain,
        "findings": report.findings,
    }
    return json.dumps(told, ensure_ascii=False, indent=2) + "\n"


def html(report: AuditReport) -> str:
    """Return it as a page that is whole by itself: styled, escaped, without a script."""
    context = {
        "report": report,
        "heading": heading(report),
        "chain": chain(report),
        "findings": [{**one, "label": label(one["severity"])} for one in report.findings],
    }
    return render_to_string("django_webhooks_auditing/audit_report.html", context)


def heading(report: AuditReport) -> str:
    """Return the sentence above it."""
    counts = {name: report.counts.get(name, 0) for name in ("severe", "warning", "info")}
    words = _("Audit of webhooks at %(at)s UTC. Severe: %(severe)d, warnings: %(warning)d, "
              "infos: %(info)d, accepted: %(accepted)d.")  # fmt: skip
    return words % {
        **counts,
        "accepted": report.counts.get("accepted", 0),
        "at": f"{report.created_at:%Y-%m-%d %H:%M:%S}",
    }


def chain(report: AuditReport) -> str:
    """Return what is to be said of the audit trail."""
    found = report.chain
    if found.get("holds"):
        words = _("The audit trail holds: %(entries)d entries, the last is %(head)s.")
    elif found.get("broken"):
        words = _("The audit trail is BROKEN. %(broken)s")
    elif found.get("seal") == "key gone":
        words = _("The audit trail cannot be checked: the key of its seal is gone.")
    else:
        words = _("The audit trail holds entries that the app did not write.")
    return str(words % found)


def label(severity: str) -> str:
    """Return the word for a severity."""
    return str(Severity(severity).label)


FORMATS: dict[str, Callable[[AuditReport], str]] = {"text": text, "json": as_json, "html": html}

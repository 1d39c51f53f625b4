"""Audits: apply all rules, keep what was found, and say whether it is news."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from django.utils.translation import gettext as _

from .. import times
from ..models.figures.heartbeat import Heartbeat
from ..models.notification import Notification
from ..sending import database
from . import chain, rules  # noqa: F401  # the rules are registered
from .chain import Verified
from .finding import RULES, AuditContext, Finding, Severity
from .models import AcceptedFinding, AuditReport

logger = logging.getLogger("django_webhooks.auditing")

#: Name of the heartbeat by which one of several workers makes the report of the day.
HEARTBEAT = "audit"
#: A report of beat is not made again sooner.
APART = timedelta(hours=1)
#: Reports that are kept: a season of daily ones.
REPORTS_KEPT = 100
#: The id of the finding that a rule could not be applied.
FAILED = "webhooks.A000"


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """The result of an audit: findings, the accepted ones apart, and the state of the trail."""

    at: datetime
    findings: list[Finding]
    accepted: list[tuple[Finding, AcceptedFinding]]
    verified: Verified

    @property
    def counts(self) -> dict[str, int]:
        """How many findings count, by severity, and how many are accepted."""
        found = {
            one.value: sum(finding.severity is one for finding in self.findings) for one in Severity
        }
        return {**found, "accepted": len(self.accepted)}

    def at_least(self, severity: Severity) -> list[Finding]:
        """Return the findings of a severity, and of worse ones."""
        return [one for one in self.findings if one.severity.rank >= severity.rank]


def run(
    *,
    now: datetime | None = None,
    using: str | None = None,
    anchors: Mapping[int, str] | None = None,
) -> Audit:
    """Look at everything now, and return what was found, the worst first."""
    using, now = using or database.alias(), now or times.now()
    verified = chain.verify(using=using, anchors=anchors)
    context = AuditContext(now=now, using=using, verified=verified)
    found: list[Finding] = []
    for rule in RULES.values():
        try:
            found += rule.find(context)
        except Exception as error:
            # One rule that fails must not hide what the others find.
            logger.exception("The audit rule %s failed.", rule.id)
            found.append(_failed(rule.id, error))
    found.sort(key=lambda one: (-one.severity.rank, one.id, one.subject))
    valid = {
        (one.finding, one.subject): one for one in AcceptedFinding.objects.using(using).valid(now)
    }
    accepted = [
        (one, by)
        for one in found
        if (by := valid.get(one.key) or valid.get((one.id, ""))) is not None
    ]
    keys = {one.key for one, _by in accepted}
    findings = [one for one in found if one.key not in keys]
    return Audit(at=now, findings=findings, accepted=accepted, verified=verified)


def keep(audit: Audit, *, by: str = "", using: str | None = None) -> AuditReport:
    """Store an audit as a report, log it, and remove the oldest reports."""
    using = using or database.alias()
    rows = AuditReport.objects.using(using)
    made = report_of(audit, by=by, using=using)
    made.save(using=using)
    rows.trim(REPORTS_KEPT)
    if made.is_news:
        # Mailed by ``mailing``, to WEBHOOKS_NOTIFY_OPERATORS.
        Notification.objects.using(using).create(
            kind=Notification.Kind.AUDIT, detail={"counts": made.counts}, mailed_at=audit.at
        )
    worst = audit.counts["severe"]
    logger.log(
        logging.ERROR if worst else logging.INFO,
        "Audit: %d findings, %d of them severe, %d accepted; audit trail %s.",
        len(audit.findings),
        worst,
        len(audit.accepted),
        "holds" if audit.verified.holds else "does not hold",
        extra={"webhooks_findings": [one.id for one in audit.findings]},
    )
    return made


def report_of(audit: Audit, *, by: str = "", using: str | None = None) -> AuditReport:
    """Return the report of an audit, not stored."""
    rows = AuditReport.objects.using(using or database.alias())
    before = rows.latest_first().first()
    # A finding that was accepted before, and is not any more, is news.
    known = {(one["id"], one["subject"]) for one in findings_of(before)} if before else set()
    is_new = any(one.key not in known for one in audit.findings)
    return AuditReport(
        created_at=audit.at,
        by=by[:150],
        findings=[*map(_stored, audit.findings), *(_stored(*one) for one in audit.accepted)],
        counts=audit.counts,
        chain=chain_of(audit.verified),
        is_news=is_new or bool(audit.at_least(Severity.SEVERE)),
    )


def daily(*, now: datetime | None = None, using: str | None = None) -> AuditReport | None:
    """Make the report of the day, unless another worker just did."""
    using, now = using or database.alias(), now or times.now()
    return keep(run(now=now, using=using), using=using) if _claim(now, using=using) else None


def chain_of(verified: Verified) -> dict[str, Any]:
    """Return what was found of the trail, as values of JSON."""
    return {
        "holds": verified.holds,
        "entries": verified.entries,
        "head": verified.head,
        "seal": {True: "holds", False: "broken", None: "key gone"}[verified.is_sealed],
        "broken": verified.broken.sentence if verified.broken else "",
    }


def _claim(now: datetime, *, using: str) -> bool:
    rows = Heartbeat.objects.using(using)
    if rows.filter(pk=HEARTBEAT, at__lte=now - APART).update(at=now):
        return True
    return rows.get_or_create(pk=HEARTBEAT, defaults={"at": now})[1]


def _failed(id: str, error: Exception) -> Finding:
    return Finding(
        id=FAILED,
        severity=Severity.WARNING,
        subject=f"rule:{id}",
        # The error's own text might quote a secret.
        sentence=_("The rule %(id)s failed: %(kind)s.") % {"id": id, "kind": type(error).__name__},
        advice=_("See the log, and report it if it is our fault."),
    )


def _stored(finding: Finding, accepted: AcceptedFinding | None = None) -> dict[str, Any]:
    by = None
    if accepted is not None:
        by = {
            "by": accepted.by,
            "reason": accepted.reason,
            "until": accepted.until.isoformat(),
            "subject": accepted.subject,
        }
    return {**asdict(finding), "severity": finding.severity.value, "accepted": by}


def findings_of(report: AuditReport) -> Iterable[dict[str, Any]]:
    """Return the findings of a report that count; the others have who accepted them."""
    return [one for one in report.findings if not one["accepted"]]

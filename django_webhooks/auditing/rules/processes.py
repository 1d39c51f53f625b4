"""Audit rules about processes: tasks that do not run, and the messages of system checks."""

from __future__ import annotations

from collections.abc import Iterator

from django.core import checks
from django.utils.translation import gettext_lazy

from ...sending.figures import health_report
from ...sending.figures.health_report import Kind
from ..finding import AuditContext, FindingDraft, Severity, rule

#: Checks that say what a rule says with more to it.
TOLD_ELSEWHERE = frozenset({"webhooks.E100", "webhooks.W004", "webhooks.W006"})


@rule(
    "webhooks.A018",
    Severity.WARNING,
    gettext_lazy("Do what the check says, or silence it: docs/reference/checks.md."),
)
def system_checks(context: AuditContext) -> Iterator[FindingDraft]:
    """Yield what Django's system checks say of webhooks, those for production as well."""
    found = checks.run_checks(tags=["webhooks"], include_deployment_checks=True)
    for one in found:
        if one.is_silenced() or one.id in TOLD_ELSEWHERE or one.level < checks.WARNING:
            continue
        severity = Severity.SEVERE if one.level >= checks.ERROR else None
        sentence = f"{one.id}: {one.msg} {one.hint or ''}".strip()
        yield FindingDraft.of(f"check:{one.id}", sentence, severity)


@rule(
    "webhooks.A024",
    Severity.SEVERE,
    gettext_lazy("Start beat, and a worker for the queue of the webhooks: docs/howto/celery.md."),
)
def not_running(context: AuditContext) -> Iterator[FindingDraft]:
    """Yield what the health report says of workers and beat."""
    for one in health_report.running(using=context.using, now=context.now):
        if one.kind is not Kind.LATE:
            yield FindingDraft.of(f"task:{one.subject}", str(one))

"""The Celery task of auditing."""

from __future__ import annotations

from celery import shared_task

from ..tasks import MailTask
from . import audit as audits
from . import mailing


@shared_task(base=MailTask, name="django_webhooks.auditing.tasks.audit")
def audit() -> int:
    """Audit settings, rows and the audit trail, keep the report, and mail it where it is news."""
    audits.daily()
    return mailing.mail_news()

"""Mailing: tell people of reports that have news, each once."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from django.core.mail import send_mail
from django.utils.translation import gettext

from .. import times
from ..sending import database, notifications
from . import rendering
from .models import AuditReport


def mail_news(*, now: datetime | None = None, using: str | None = None) -> int:
    """Mail the reports that have news and were not mailed; return how many."""
    using = using or database.alias()
    rows = AuditReport.objects.using(using)
    to = notifications.operators()
    if not to:
        return 0
    mailed = 0
    for report in rows.to_be_mailed():
        claimed = rows.filter(pk=report.pk, mailed_at__isnull=True)
        if not claimed.update(mailed_at=now or times.now()):
            continue  # Another worker does.
        try:
            send(report, to)
        except Exception:
            rows.filter(pk=report.pk).update(mailed_at=None)
            raise
        mailed += 1
    return mailed


def send(report: AuditReport, to: Sequence[str]) -> None:
    """Mail a report, as text and as HTML."""
    counts = report.counts
    words = gettext("Webhooks: audit with %(severe)d severe findings and %(warning)d warnings")
    subject = words % {"severe": counts.get("severe", 0), "warning": counts.get("warning", 0)}
    page = rendering.html(report)
    send_mail(subject, rendering.text(report), None, list(to), html_message=page)

"""Audit rules about receiving; registered where the app ``auditing`` is installed, too."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from django.db.models import Count, Sum
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from ..auditing.finding import AuditContext, FindingDraft, Severity, rule
from ..policies.reasons import RejectionReason
from .models import InboxMessage, NetworkList, Rejection

#: Rejected requests of a day that are told of, and that are severe.
MANY, FLOOD = 20, 10_000
#: For so long what senders publish is taken for what is so.
FRESH = timedelta(days=8)
#: Findings of one rule at the most.
TOLD = 50


@rule(
    "webhooks.A017",
    Severity.WARNING,
    gettext_lazy("Compare the secrets with the sender's; see where they come from in the admin."),
)
def rejections(context: AuditContext) -> Iterator[FindingDraft]:
    """Yield views that refused many signatures within a day, with the network of most of them."""
    rows = Rejection.objects.using(context.using).filter(
        reason=RejectionReason.SIGNATURE, period__gte=context.now - timedelta(days=1)
    )
    totals = rows.order_by().values_list("source").annotate(total=Sum("count"))
    for source, total in totals.filter(total__gte=MANY).order_by("-total")[:TOLD]:
        own = rows.filter(source=source).order_by().values_list("network")
        network, number = own.annotate(total=Sum("count")).order_by("-total", "network")[0]
        yield FindingDraft.of(
            f"view:{source}",
            _("%(source)s refused %(total)d signatures within a day, %(number)d of them from "
              "%(network)s."),
            severity=Severity.SEVERE if total >= FLOOD else None,
            source=source, total=total, number=number, network=network or _("many networks"),
        )  # fmt: skip


@rule(
    "webhooks.A028",
    Severity.WARNING,
    gettext_lazy("See why in the inbox, mend the handler, and have them handled again."),
)
def given_up(context: AuditContext) -> Iterator[FindingDraft]:
    """Yield views whose messages were given up, and not replayed."""
    rows = InboxMessage.objects.using(context.using).given_up().order_by()
    for source, number in rows.values_list("source").annotate(Count("pk"))[:TOLD]:
        words = ngettext(
            "%(number)d message that %(source)s received was given up.",
            "%(number)d messages that %(source)s received were given up.",
            number,
        )
        yield FindingDraft.of(f"view:{source}", words, number=number, source=source)


@rule(
    "webhooks.A029",
    Severity.WARNING,
    gettext_lazy("Run webhooks_networks, and see that it runs daily."),
)
def old_lists(context: AuditContext) -> Iterator[FindingDraft]:
    """Yield lists of networks that were not loaded for more than a week."""
    rows = NetworkList.objects.using(context.using).filter(loaded_at__lt=context.now - FRESH)
    for row in rows[:TOLD]:
        words = _("The networks of %(name)s were last loaded %(days)d days ago.")
        days = (context.now - row.loaded_at).days
        yield FindingDraft.of(f"networks:{row.pk}", words, name=row.pk, days=days)

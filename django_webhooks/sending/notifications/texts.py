"""Texts of notifications: subject and body of a mail, with what to do and where to look."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from django.urls import NoReverseMatch, reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from ...conf import settings
from ...models import Subscription
from ...models.notification import Notification

if TYPE_CHECKING:
    from .mails import News

#: Subscriptions of which one mail tells all.
TOLD = 20
Kind = Notification.Kind


def of_subscriptions(news: Sequence[News]) -> tuple[str, str]:
    """Return subject and body of the mail about these."""
    sections = "\n\n".join(_section(one) for one in news[:TOLD])
    if len(news) > TOLD:
        rest = len(news) - TOLD
        sections += "\n\n" + ngettext(
            "%(count)d more subscription has news: see the admin.",
            "%(count)d more subscriptions have news: see the admin.",
            rest,
        ) % {"count": rest}
    if len(news) == 1:
        subject = _subject(news[0]) % {"name": _name(news[0].subscription)}
    else:
        subject = _("Webhooks: news of %(count)d subscriptions") % {"count": len(news)}
    end = _(
        "Nothing is lost: deliveries are kept, and sent or replayed once it is mended. You are "
        "told again when something changes."
    )
    return subject, f"{sections}\n\n{end}\n"


def of_site(rows: Sequence[Notification]) -> tuple[str, str]:
    """Return subject and body of the mail about workers, beat, keys and events."""
    last = {row.subject: row for row in rows}
    is_well = all(row.kind == Kind.SITE_UP for row in last.values())
    subject = _("Webhooks: the site is well again") if is_well else _("Webhooks: not well")
    lines = []
    for row in last.values():
        if row.kind == Kind.SITE_UP:
            text = _("It is over: %(sentence)s") % {"sentence": row.detail.get("sentence", "")}
        else:
            text = f"{row.detail.get('sentence', '')} {row.detail.get('advice', '')}"
        lines.append(f"- {text}")
    link = _link("admin:django_webhooks_overviewpage_changelist")
    return subject, "\n".join([*lines, "", *([link] if link else [])])


def _subject(news: News) -> str:
    kinds = {row.kind for row in news.rows}
    words = {
        Kind.DISABLED: _("Webhooks: %(name)s is disabled"),
        Kind.FAILING: _("Webhooks: %(name)s will be disabled"),
        Kind.UNREADABLE: _("Webhooks: %(name)s cannot be decrypted"),
    }
    for kind, text in words.items():
        if kind in kinds:
            return text
    if news.level:
        return _("Webhooks: %(name)s has trouble")
    if Kind.ENDPOINT_DISABLED in kinds:
        return _("Webhooks: an endpoint of %(name)s is disabled")
    if Kind.GIVEN_UP in kinds:
        return _("Webhooks: deliveries of %(name)s were given up")
    return _("Webhooks: %(name)s is well again")


def _section(news: News) -> str:
    subscription = news.subscription
    lines = [_name(subscription), *(f"- {text}" for text in _sentences(news))]
    candidates = subscription.endpoint_health.select_related("endpoint").order_by(
        "endpoint__position"
    )
    for candidate in candidates:
        if candidate.endpoint.is_usable:
            state = f"{candidate.get_state_display()} {candidate.reason}".rstrip()
        else:
            state = f"{_('Disabled')} {candidate.endpoint.disabled_reason}".rstrip()
        lines.append(f"  {candidate.endpoint.label}: {state}")
    active = next((candidate.endpoint for candidate in candidates if candidate.is_active), None)
    if not subscription.is_active:
        lines.append(f"  {_('Deliveries wait until it is resumed.')}")
    elif active is not None:
        lines.append(f"  {_('Deliveries go to %(endpoint)s.') % {'endpoint': active.label}}")
    elif candidates:
        lines.append(f"  {_('Deliveries wait until one of them answers.')}")
    if link := _link("admin:django_webhooks_subscription_change", subscription.pk):
        lines.append(f"  {link}")
    return "\n".join(lines)


def _sentences(news: News) -> list[str]:
    found = []
    if news.level == 0:
        found.append(_("All its endpoints take deliveries again."))
    elif news.level is not None:
        found.append(_("An endpoint does not answer as it should: docs/howto/endpoint-down.md."))
    given_up = [row for row in news.rows if row.kind == Kind.GIVEN_UP]
    if given_up:
        found.append(_given_up(given_up))
    for row in news.rows:
        text = _of_row(row)
        if text and text not in found:
            found.append(text)
    return found


def _given_up(rows: Sequence[Notification]) -> str:
    reasons: dict[str, int] = {}
    examples: list[str] = []
    for row in rows:
        examples += row.detail.get("deliveries", [])
        for reason, count in row.detail.get("reasons", {}).items():
            reasons[reason] = reasons.get(reason, 0) + count
    total = sum(row.count for row in rows)
    text = ngettext(
        "%(count)d delivery was given up (%(reasons)s), such as %(examples)s. See why, mend it, "
        "and replay: docs/howto/operate.md#replay.",
        "%(count)d deliveries were given up (%(reasons)s), such as %(examples)s. See why, mend "
        "it, and replay them: docs/howto/operate.md#replay.",
        total,
    )
    ordered = sorted(reasons.items(), key=lambda item: -item[1])
    return text % {
        "count": total,
        "reasons": ", ".join(f"{reason}: {count}" for reason, count in ordered),
        "examples": ", ".join(examples[:3]),
    }


def _of_row(row: Notification) -> str:
    detail: dict[str, Any] = row.detail
    match row.kind:
        case Kind.ENDPOINT_DISABLED:
            return _(
                "The endpoint %(host)s is disabled (%(reason)s): ask its receiver, then enable it, "
                "give it another URL, or delete it."
            ) % {"host": detail.get("host", ""), "reason": detail.get("reason") or "-"}
        case Kind.FAILING:
            return _(
                "All its endpoints have failed for %(share)d %% of the time after which it is "
                "disabled."
            ) % {"share": round(float(detail.get("share", 0)) * 100)}
        case Kind.DISABLED:
            return _("It is disabled. %(reason)s Mend it, then resume it in the admin.") % {
                "reason": row.subscription.status_reason if row.subscription else ""
            }
        case Kind.UNREADABLE:
            return _(
                "Its URL or a key cannot be decrypted, so that its deliveries wait: add the "
                "missing key to WEBHOOKS_ENCRYPTION_KEYS again."
            )
        case Kind.READABLE:
            return _("Its URLs and keys can be decrypted again.")
    return ""


def _name(subscription: Subscription) -> str:
    # A name with a line break must not become a header.
    return " ".join(subscription.name.split())


def _link(name: str, *arguments: Any) -> str:
    """Return where to look, where WEBHOOKS_SITE_URL says how the site is reached."""
    base = str(settings.WEBHOOKS_SITE_URL).rstrip("/")
    if not base:
        return ""
    try:
        return base + reverse(name, args=arguments)
    except NoReverseMatch:  # There is no admin.
        return ""

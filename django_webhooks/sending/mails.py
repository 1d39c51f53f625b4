"""Mails: what people are told of outages, each once, however many workers tell."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from django.core.mail import send_mail
from django.utils.module_loading import import_string
from django.utils.translation import gettext

from ..conf import settings
from ..models import Subscription
from .disabling import STAGES


def tell_of_trouble(subscription: Subscription, *, now: datetime, using: str) -> int:
    """Say that an endpoint fails, and return how many mails that were.

    One that cannot be sent is as if it had not been tried, and raises its error.
    """
    rows = Subscription.objects.using(using).filter(pk=subscription.pk)
    if not rows.filter(told_down_at__isnull=True).update(told_down_at=now):
        return 0
    doors = list(subscription.doors.select_related("endpoint").order_by("endpoint__position"))
    lines = "\n".join(
        f"- {door.endpoint.label}: {door.get_state_display()} {door.reason}".rstrip()
        for door in doors
    )
    active = next((door.endpoint for door in doors if door.is_active), None)
    body = gettext(
        "An endpoint of the webhook subscription %(name)s does not answer as it should.\n\n"
        "%(lines)s\n\n%(now)s Nothing is lost. You are not mailed again before all its endpoints "
        "have recovered."
    )
    state = (
        gettext("Deliveries go to %(endpoint)s.") % {"endpoint": active.label}
        if active
        else gettext("Deliveries wait until one of them answers.")
    )
    try:
        return _mail(
            subscription, gettext("Webhooks: %(name)s has trouble"), body, lines=lines, now=state
        )
    except Exception:
        rows.filter(told_down_at=now).update(told_down_at=None)
        raise


def tell_of_stage(subscription: Subscription, *, using: str) -> int:
    """Say that it will be, or is, disabled. Counts and fails as :func:`tell_of_trouble` does."""
    stage, before = subscription.down_warnings, subscription.told_stage
    rows = Subscription.objects.using(using).filter(pk=subscription.pk)
    if not rows.filter(told_stage__lt=stage).update(told_stage=stage):
        return 0
    is_over = stage == len(STAGES)
    subject = (
        gettext("Webhooks: %(name)s is disabled")
        if is_over
        else gettext("Webhooks: %(name)s will be disabled")
    )
    body = gettext(
        "All endpoints of the webhook subscription %(name)s have failed for %(share)d %% of the "
        "time after which it is disabled. Nothing is lost: its deliveries are kept, and flow when "
        "an endpoint answers or, once it is disabled, when it is resumed in the admin."
    )
    try:
        return _mail(subscription, subject, body, share=round(STAGES[stage - 1] * 100))
    except Exception:
        rows.filter(told_stage=stage).update(told_stage=before)
        raise


def _mail(subscription: Subscription, subject: str, body: str, **parts: Any) -> int:
    recipients = _recipients(subscription)
    if not recipients:
        return 0
    # A name with a line break must not become a header.
    name = " ".join(subscription.name.split())
    send_mail(subject % {"name": name}, body % {"name": name, **parts}, None, recipients)
    return 1


def _recipients(subscription: Subscription) -> list[str]:
    wanted = settings.WEBHOOKS_NOTIFY
    if isinstance(wanted, str):
        wanted = import_string(wanted)
    if callable(wanted):
        asked: Callable[[Subscription], Iterable[str]] = wanted
        return list(asked(subscription))
    return list(wanted)

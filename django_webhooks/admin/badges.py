"""Badges: health in a word, with a colour that suits the theme; the word alone says it."""

from __future__ import annotations

from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from ..models import Endpoint, EndpointHealth

MEDIA = {"all": ["django_webhooks/admin.css"]}
SCRIPTS = ["django_webhooks/admin.js"]

#: Kinds of badges for what became of deliveries and attempts.
KINDS = {
    "succeeded": "healthy",
    "waiting": "trial",
    "retry": "trial",
    "running": "trial",
    "done": "healthy",
    "given_up": "unhealthy",
    "final": "unhealthy",
}


def health_of(endpoint: Endpoint) -> SafeString:
    """Return the health of an endpoint as a badge."""
    health: EndpointHealth | None = getattr(endpoint, "health", None)
    if not endpoint.is_usable:
        return badge("disabled", because(_("Disabled"), endpoint.disabled_reason))
    if health is None:
        return badge("disabled", _("Not known yet"))
    word = health.get_state_display()
    return badge(health.state, because(word, health.reason))


def because(word: str, reason: str) -> str:
    """Return a word with the reason behind it, where there is one."""
    return _("%(state)s (%(reason)s)") % {"state": word, "reason": reason} if reason else word


def badge(kind: str, word: str) -> SafeString:
    """Return a word as a badge of a kind: healthy, trial, unhealthy or disabled."""
    return format_html('<span class="webhooks-badge webhooks-{}">{}</span>', kind, word)


def status(value: str, word: str) -> SafeString:
    """Return what became of a delivery, an attempt or a bulk replay as a badge."""
    return badge(KINDS.get(value, "disabled"), word)

"""The app of the inbox."""

from __future__ import annotations

from django.apps import AppConfig, apps
from django.utils.translation import gettext_lazy as _


class InboxConfig(AppConfig):
    """Received messages, each processed once."""

    name = "django_webhooks.inbox"
    label = "django_webhooks_inbox"
    verbose_name = _("Webhooks: inbox")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Let views store what they receive, and audits look at it."""
        from .. import extensions
        from ..receiving import inboxes
        from . import checks, store  # noqa: F401  # importing checks registers them
        from .extension import InboxExtension

        inboxes.install(store)
        extensions.install(InboxExtension())
        if apps.is_installed("django_webhooks.auditing"):
            from . import audit_rules  # noqa: F401  # the rules are registered

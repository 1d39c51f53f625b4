"""The app of audits."""

from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class AuditingConfig(AppConfig):
    """The audit trail, and audits."""

    name = "django_webhooks.auditing"
    label = "django_webhooks_auditing"
    verbose_name = _("Webhooks: audits")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Record what the core logs, and what is changed past it."""
        from .. import audit_log, extensions
        from . import changes, checks, permissions  # noqa: F401  # importing checks registers them
        from .extension import AuditingExtension

        audit_log.install(changes)
        extensions.install(AuditingExtension())
        changes.connect()
        permissions.connect()

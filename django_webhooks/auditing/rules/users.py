"""Audit rules about users and permissions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.apps import apps
from django.db.models import Q
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ..finding import AuditContext, FindingDraft, Severity, rule
from ..permissions import LABELS


@rule(
    "webhooks.A027",
    Severity.INFO,
    gettext_lazy("Take the permissions away: who is active again would have them again."),
)
def inactive(context: AuditContext) -> Iterator[FindingDraft]:
    """Yield users who are not active any more, and may still do something with webhooks."""
    for user in _users(is_active=False):
        words = _("%(user)s is not active, and still holds permissions for webhooks.")
        yield FindingDraft.of(f"user:{user.pk}", words, user=user.get_username())


def _users(**fields: Any) -> Iterator[Any]:
    """Yield users that hold permissions of these apps, by themselves, by a group, or all."""
    if not apps.is_installed("django.contrib.auth"):
        return
    from django.contrib.auth import get_user_model

    model: Any = get_user_model()
    names = {field.name for field in model._meta.get_fields()}
    if not {"is_superuser", "user_permissions", "groups", *fields} <= names:
        return
    app = "content_type__app_label__in"
    held = (
        Q(is_superuser=True)
        | Q(**{f"user_permissions__{app}": LABELS})
        | Q(**{f"groups__permissions__{app}": LABELS})
    )
    yield from model._default_manager.filter(held, **fields).distinct().order_by("pk").iterator()

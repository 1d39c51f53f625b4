"""Pages of the admin: their addresses, who looks at them, and what a browser sends back."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.contrib.auth.models import Permission, User
from django.urls import reverse


def url(model: str, page: str = "changelist", *args: object) -> str:
    """Return the address of a page of a model of the core, or of one of the optional apps."""
    ours = (one for one in apps.get_app_configs() if one.name.startswith("django_webhooks"))
    [label] = [one.label for one in ours if model in one.models]
    return reverse(f"admin:{label}_{model}_{page}", args=args)


def staff(client: Any, *codenames: str) -> Any:
    """Log somebody in who has these permissions."""
    user = User.objects.create_user("staff", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    client.force_login(user)
    return client


def form_of(response: Any) -> dict[str, object]:
    """Return what a browser would send back."""
    form = response.context["adminform"].form
    forms = [form]
    for formset in response.context["inline_admin_formsets"]:
        forms += [formset.formset.management_form, *formset.formset.forms]
    data = {}
    for one in forms:
        for bound in one:
            value = bound.value()
            data[bound.html_name] = "" if value is None else value
    return data


def act(client: Any, model: str, action: str, *rows: Any) -> Any:
    """Do an action with rows of a list."""
    data = {"action": action, "_selected_action": [row.pk for row in rows]}
    return client.post(url(model), data, follow=True)


def messages_of(response: Any) -> list[str]:
    """Return what the user is told."""
    return [str(message) for message in response.context["messages"]]

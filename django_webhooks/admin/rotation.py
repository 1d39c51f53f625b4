"""Rotation of signing keys: the question, and the page that shows new secrets once."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib.admin import ModelAdmin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.translation import gettext_lazy as _

from ..conf import settings
from ..models import SigningKey, Subscription


def _default_overlap() -> float:
    return float(settings.WEBHOOKS_KEY_OVERLAP / 3600)


class RotationForm(forms.Form):
    """How keys are rotated."""

    overlap = forms.FloatField(
        label=_("Overlap in hours"),
        min_value=0,
        max_value=24 * 365,
        initial=_default_overlap,
        help_text=_(
            "So long requests carry the signatures of the former keys as well. "
            "0 ends them at once: for a key that leaked."
        ),
    )
    kind = forms.ChoiceField(
        label=_("Kind"),
        required=False,
        choices=[("", _("As before")), *SigningKey.Kind.choices],
    )


def answer(
    admin: ModelAdmin[Any], request: HttpRequest, queryset: QuerySet[Subscription]
) -> HttpResponse:
    """Ask for overlap and kind; once they are given, rotate and show the new keys."""
    subscriptions = list(queryset)
    form = RotationForm(request.POST if "confirmed" in request.POST else None)
    rotated: list[tuple[Subscription, str, str]] = []
    if "confirmed" in request.POST and form.is_valid():
        for subscription in subscriptions:
            rotated.append(_rotate(subscription, form.cleaned_data, by=request.user.get_username()))
            admin.log_change(request, subscription, "Rotated the signing key.")
    context = {
        **admin.admin_site.each_context(request),
        "title": _("New signing keys") if rotated else _("Rotate signing keys"),
        "opts": admin.opts,
        "subscriptions": subscriptions,
        "form": form,
        "rotated": rotated,
        "action_checkbox_name": ACTION_CHECKBOX_NAME,
    }
    page = TemplateResponse(request, "admin/django_webhooks/rotate.html", context)
    page["Cache-Control"] = "no-store"
    return page


def _rotate(
    subscription: Subscription, how: dict[str, Any], *, by: str
) -> tuple[Subscription, str, str]:
    try:
        key = subscription.rotate_key(kind=how["kind"], overlap=how["overlap"] * 3600, by=by)
    except ValueError as error:
        return subscription, "", str(error)
    return subscription, key.public_key or key.secret, ""

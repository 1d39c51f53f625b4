"""Rotation of signing keys: the question, and the page that shows new keys once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from django import forms
from django.contrib import messages
from django.contrib.admin import ModelAdmin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext_lazy as _

from .. import signing
from ..models import SigningKey, Subscription
from ..models.signing_key import OVERLAP_SECONDS
from . import answers
from .mixins import permitted

#: Where the session keeps the tokens of pages that were asked for and not answered yet.
TOKENS = "webhooks_rotations"


class RotationForm(forms.Form):
    """How keys are rotated."""

    token = forms.CharField(widget=forms.HiddenInput, required=False)
    overlap = forms.FloatField(
        label=_("Overlap in hours"),
        min_value=0,
        max_value=24 * 365,
        initial=OVERLAP_SECONDS / 3600,
        help_text=_(
            "So long requests carry the signatures of the former keys as well. "
            "0 ends them at once: for a key that leaked."
        ),
    )
    kind = forms.ChoiceField(label=_("Kind"), required=False)

    def __init__(self, *args: Any, sees_secrets: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field: Any = self.fields["kind"]
        if sees_secrets:
            field.choices = [("", _("As before")), *SigningKey.Kind.choices]
        else:
            # Nobody could give the receiver a secret that nobody saw.
            field.choices = [(one.value, one.label) for one in [SigningKey.Kind.ED25519]]
            field.help_text = _(
                "Without the permission to see secrets you can change to a public key only."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotated:
    """A new key, or why there is none."""

    subscription: Subscription
    key: str = ""
    error: str = ""


def answer(
    admin: ModelAdmin[Any], request: HttpRequest, queryset: QuerySet[Subscription]
) -> HttpResponse:
    """Ask for overlap and kind; once they are given, rotate and show the new keys.

    Each page that asks rotates once: to load the answer again rotates nothing.
    """
    subscriptions = list(queryset)
    is_answer = "confirmed" in request.POST
    sees_secrets = permitted(request, "see_secret")
    form = RotationForm(
        request.POST if is_answer else None,
        sees_secrets=sees_secrets,
        initial={"token": _token(request)},
    )
    rotated: list[Rotated] = []
    is_confirmed = is_answer and form.is_valid()
    is_repeated = is_confirmed and not _take(request, form.cleaned_data["token"])
    if is_repeated:
        words = _("This was done already: the keys were not rotated again.")
        admin.message_user(request, words, messages.WARNING)
    elif is_confirmed:
        rotated = [_rotate(admin, request, one, form.cleaned_data) for one in subscriptions]
    page = answers.page(
        admin,
        request,
        "django_webhooks/rotate",
        title=_("New signing keys") if rotated else _("Rotate signing keys"),
        subscriptions=subscriptions,
        form=form,
        rotated=rotated,
        is_repeated=is_repeated,
        action_checkbox_name=ACTION_CHECKBOX_NAME,
    )
    page["Cache-Control"] = "no-store"
    return page


def _token(request: HttpRequest) -> str:
    if "confirmed" in request.POST:
        return ""
    token = uuid4().hex
    request.session[TOKENS] = [*request.session.get(TOKENS, []), token][-10:]
    return token


def _take(request: HttpRequest, token: str) -> bool:
    tokens = request.session.get(TOKENS, [])
    if token not in tokens:
        return False
    request.session[TOKENS] = [one for one in tokens if one != token]
    return True


def _rotate(
    admin: ModelAdmin[Any], request: HttpRequest, subscription: Subscription, how: dict[str, Any]
) -> Rotated:
    by = request.user.get_username()
    try:
        key = subscription.rotate_key(kind=how["kind"], overlap=how["overlap"] * 3600, by=by)
    except ValueError as error:
        return Rotated(subscription=subscription, error=str(error))
    admin.log_change(request, subscription, "subscription.key_rotated")
    shown = key.public_key if key.kind == signing.ED25519 else key.secret
    return Rotated(subscription=subscription, key=shown)

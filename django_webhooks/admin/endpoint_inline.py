"""Endpoints within their subscription, to edit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.forms.models import BaseInlineFormSet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from ..fields import undecryptable_fields
from ..models import Endpoint, Subscription
from . import badges, html
from .mixins import HostColumns, MaskedHosts
from .times import moment_column


class SecretArea(forms.Textarea):
    """A text that is entered and never shown again."""

    def format_value(self, value: Any) -> str:
        """Nothing, whatever there is."""
        return ""


class EndpointForm(forms.ModelForm):  # type: ignore[type-arg]  # generic for type checkers alone
    """One endpoint; what cannot be decrypted is kept unless it is entered anew."""

    remove_client_certificate = forms.BooleanField(
        label=_("Remove the client certificate"), required=False
    )

    class Meta:
        model = Endpoint
        exclude: Sequence[str] = ()
        widgets: ClassVar = {
            "client_certificate": SecretArea(attrs={"rows": 3, "cols": 60}),
            "ca_bundle": forms.Textarea(attrs={"rows": 3, "cols": 60}),
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        undecryptable = undecryptable_fields(self.instance)
        for name in undecryptable.keys() & self.fields.keys():
            self.fields[name].required = False
            self.fields[name].help_text = format_html(
                "<strong>{}</strong> {}",
                _("Cannot be read; left empty it stays."),
                undecryptable[name],
            )
        if not self.instance.client_certificate:
            self.fields["remove_client_certificate"].disabled = True
        elif "client_certificate" in self.fields:
            self.fields["client_certificate"].help_text = _(
                "There is one, which is not shown; enter another to replace it."
            )

    def clean_client_certificate(self) -> Any:
        """Return what was entered, or what there was."""
        return self.cleaned_data["client_certificate"] or self.instance.client_certificate

    def clean(self) -> Any:
        """Remove the certificate where that was asked for."""
        cleaned = super().clean()
        if self.cleaned_data.get("remove_client_certificate"):
            self.cleaned_data["client_certificate"] = ""
        return cleaned


class EndpointFormSet(BaseInlineFormSet):  # type: ignore[type-arg]  # generic for type checkers alone
    """The endpoints of one subscription, each with a URL of its own."""

    def clean(self) -> None:
        """Refuse a URL that two endpoints share."""
        super().clean()
        seen: set[str] = set()
        for form in self.forms:
            data = getattr(form, "cleaned_data", {})
            url = data.get("url")
            if not url or data.get("DELETE"):
                continue
            if url in seen:
                raise ValidationError(
                    _("Two endpoints have the same URL; a backup helps only where it is another."),
                    code="duplicate",
                )
            seen.add(url)


class EndpointInline(HostColumns, MaskedHosts, admin.StackedInline):  # type: ignore[type-arg]  # generic for type checkers alone
    """The endpoints of a receiver, in order."""

    model = Endpoint
    form = EndpointForm
    formset = EndpointFormSet
    masks = {"host_name": "masked_host"}
    readonly_fields = ["host_name", "health_badge", "disabled", "disabled_reason", "disabled_by"]

    disabled = moment_column(_("disabled"), "disabled_at")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Endpoint]:
        """Read the health of all rows at once."""
        return super().get_queryset(request).select_related("health", "subscription")

    def get_extra(
        self, request: HttpRequest, obj: Subscription | None = None, **kwargs: Any
    ) -> int:
        """Offer one where there is none."""
        return 0 if obj else 1

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return whether the user may change, since an endpoint is added among others."""
        return super().has_add_permission(request, obj) and (
            obj is None or self.has_change_permission(request, obj)
        )

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Show URLs and credentials to those alone who may change them."""
        state = ["health_badge", "disabled", "disabled_reason", "disabled_by"] if obj else []
        if self.has_change_permission(request, obj) or obj is None:
            certificates = ["client_certificate", "remove_client_certificate", "ca_bundle"]
            return [
                "position", "url", "authorization", "headers", "probe", "health_url",
                *certificates, *state,
            ]  # fmt: skip
        return self._masked(request, ["position", "host_name", "probe", *state])

    @admin.display(description=_("health"))
    def health_badge(self, endpoint: Endpoint) -> str:
        """Whether it may be called, and why not; and whether deliveries go there."""
        return format_html("{} {}", badges.health_of(endpoint), html.mark(endpoint))

"""Endpoints within their subscription, to edit."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.forms.models import BaseInlineFormSet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from ..models import Endpoint, Subscription
from . import badges, parts


class EndpointFormSet(BaseInlineFormSet):  # type: ignore[type-arg]  # generic for type checkers alone
    """The endpoints of one subscription, which are different doors."""

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


class EndpointInline(admin.StackedInline):  # type: ignore[type-arg]  # generic for type checkers alone
    """The doors of a receiver, in order."""

    model = Endpoint
    formset = EndpointFormSet
    readonly_fields = ["host_name", "health_badge", "disabled_at", "disabled_reason"]

    class Media:
        css = badges.MEDIA

    def get_queryset(self, request: HttpRequest) -> QuerySet[Endpoint]:
        """Read the health of all rows at once."""
        return super().get_queryset(request).select_related("health", "subscription")

    def get_extra(
        self, request: HttpRequest, obj: Subscription | None = None, **kwargs: Any
    ) -> int:
        """Offer one where there is none."""
        return 0 if obj else 1

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Those who may change, since an endpoint is added among others."""
        return super().has_add_permission(request, obj) and (
            obj is None or self.has_change_permission(request, obj)
        )

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Show URLs and credentials to those alone who may change them."""
        state = ["health_badge", "disabled_at", "disabled_reason"] if obj else []
        if self.has_change_permission(request, obj) or obj is None:
            return [
                "position", "url", "authorization", "headers", "probe", "health_url", *state,
            ]  # fmt: skip
        return ["position", "host_name", "probe", *state]

    @admin.display(description=_("host"))
    def host_name(self, endpoint: Endpoint) -> str:
        """The part of the URL that is no secret."""
        return endpoint.host

    @admin.display(description=_("health"))
    def health_badge(self, endpoint: Endpoint) -> str:
        """Whether it may be called, and why not; and whether deliveries go there."""
        return format_html("{} {}", badges.health_of(endpoint), parts.mark(endpoint))

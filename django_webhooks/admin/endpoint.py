"""Endpoints, within their subscription."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from ..models import Endpoint, Subscription


class EndpointInline(admin.StackedInline):  # type: ignore[type-arg]  # generic for type checkers alone
    """The doors of a receiver, in order."""

    model = Endpoint
    readonly_fields = ["host_name", "disabled_at", "disabled_reason"]

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
        if self.has_change_permission(request, obj) or obj is None:
            return [
                "position", "url", "authorization", "headers", "disabled_at", "disabled_reason",
            ]  # fmt: skip
        return ["position", "host_name", "disabled_at", "disabled_reason"]

    @admin.display(description=_("host"))
    def host_name(self, endpoint: Endpoint) -> str:
        """The part of the URL that is no secret."""
        return endpoint.host

"""Answers: pages of an admin, and sentences about what an action did."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.admin import ModelAdmin
from django.http import HttpRequest
from django.template.response import TemplateResponse


def page(
    admin: ModelAdmin[Any], request: HttpRequest, template: str, **context: Any
) -> TemplateResponse:
    """Return a page of this package, with what each page of the admin site needs."""
    common = {"opts": admin.opts, "media": admin.media}
    whole = {**admin.admin_site.each_context(request), **common, **context}
    return TemplateResponse(request, f"admin/{template}.html", whole)


def tell(admin: ModelAdmin[Any], request: HttpRequest, words: str, count: int) -> None:
    """Say to the user how many rows an action changed, and warn where it changed none."""
    level = messages.SUCCESS if count else messages.WARNING
    admin.message_user(request, words % {"count": count}, level)

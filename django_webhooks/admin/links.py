"""Addresses of pages on the admin site that somebody looks at: a project may have several.

A site need not have all of these admins, and each page then does without the links to those that it
has not.
"""

from __future__ import annotations

from typing import Any

from django.contrib.admin import AdminSite, ModelAdmin
from django.http import HttpResponseRedirect
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString


def address(
    site: AdminSite, model: str, page: str = "changelist", *args: Any, app: str = "django_webhooks"
) -> str:
    """Return the address of a page of the site, or an empty text where it has none."""
    try:
        name = f"admin:{app}_{model}_{page}"
        return reverse(name, args=args, current_app=site.name)
    except NoReverseMatch:
        return ""


def link(site: AdminSite, model: str, key: Any, text: str) -> SafeString:
    """Return a link to the page of a row, or the text alone."""
    found = address(site, model, "change", key)
    if not found:
        return format_html("<bdi>{}</bdi>", text)
    return format_html('<a href="{}"><bdi>{}</bdi></a>', found, text)


def redirect(
    admin: ModelAdmin[Any], model: str, page: str = "changelist", *args: Any
) -> HttpResponseRedirect:
    """Go to a page, or to the list of this admin where the site has no such page."""
    own, app = str(admin.opts.model_name), admin.opts.app_label
    site = admin.admin_site
    return HttpResponseRedirect(
        address(site, model, page, *args, app=app) or address(site, own, app=app)
    )

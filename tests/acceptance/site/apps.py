"""The site as an app."""

from __future__ import annotations

from django.apps import AppConfig


class SiteConfig(AppConfig):
    """The app that the tests count by."""

    name = "tests.acceptance.site"
    label = "site"

"""The site as an app."""

from __future__ import annotations

from importlib import import_module

from django.apps import AppConfig
from django.conf import settings


class SiteConfig(AppConfig):
    """The app that the tests count by."""

    name = "tests.acceptance.site"
    label = "site"

    def ready(self) -> None:
        """Change the constants that a test changes."""
        for path, value in settings.TEST_CONSTANTS.items():
            module, _, name = path.rpartition(".")
            found = import_module(module)
            if not hasattr(found, name):
                raise AttributeError(f"{path} is no constant.")
            setattr(found, name, value)

"""The app of the project, which connects the compared one where a project has to."""

from __future__ import annotations

import os
from importlib import import_module

from django.apps import AppConfig


class ShopConfig(AppConfig):
    """Call what the documentation has a project call."""

    name = "benchmarks.peers.shop"
    label = "shop"

    def ready(self) -> None:
        """Connect the compared app."""
        import_module(f"benchmarks.peers.{os.environ['PEER']}").SETUP.connect()

"""The shop as an app."""

from __future__ import annotations

from django.apps import AppConfig


class ShopConfig(AppConfig):
    """A shop with orders."""

    name = "example_project.shop"
    label = "shop"

"""Settings that do not exist."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Warning

from .. import conf
from .system_check import system_check


@system_check("webhooks")
def check_names(**kwargs: Any) -> Iterator[CheckMessage]:
    """Check that each WEBHOOKS_ setting is one of ours."""
    set_ones = {name for name in dir(django_settings) if name.startswith(conf.PREFIX)}
    for name in sorted(set_ones.difference(conf.names())):
        yield Warning(
            f"{name} is no setting of django_webhooks and changes nothing.",
            hint=f"Did you mean {meant}?" if (meant := conf.nearest(name)) else "Remove it.",
            id="webhooks.W001",
        )

"""Settings that do not exist."""

from __future__ import annotations

import difflib
from typing import Any

from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Warning, register

from ..conf import Settings

_PREFIX = "WEBHOOKS_"


@register("webhooks")
def check_names(**kwargs: Any) -> list[CheckMessage]:
    """Check that each WEBHOOKS_ setting is one of ours."""
    known = [name for name in vars(Settings) if name.startswith(_PREFIX)]
    set_ones = {name for name in dir(django_settings) if name.startswith(_PREFIX)}
    return [
        Warning(
            f"{name} is no setting of django_webhooks and changes nothing.",
            hint=_hint(name, known),
            id="webhooks.W001",
        )
        for name in sorted(set_ones.difference(known))
    ]


def _hint(name: str, known: list[str]) -> str:
    # Without the prefix, which makes all of them alike.
    endings = [one.removeprefix(_PREFIX) for one in known]
    nearest = difflib.get_close_matches(name.removeprefix(_PREFIX), endings, n=1)
    return f"Did you mean {_PREFIX}{nearest[0]}?" if nearest else "Remove it."

"""Django settings of the benchmark of scale: databases with few rows and with many, in one process.

:data:`CHOSEN` names the one that is in use.
"""

from __future__ import annotations

from typing import Any

from . import settings
from .settings import *  # noqa: F403

#: Hardly a row; many subscriptions; those and many deliveries.
ALIASES = ("default", "listeners", "full")
CHOSEN = ["default"]


class Router:
    """Use the chosen database."""

    def db_for_read(self, model: Any, **hints: Any) -> str:
        """Return the alias of the chosen one."""
        return CHOSEN[0]

    db_for_write = db_for_read


def _named(suffix: str) -> dict[str, Any]:
    # The time that the disk takes for a commit would hide what differs.
    options = {"options": "-c synchronous_commit=off"}
    own = settings.DATABASES["default"]
    return own | {"NAME": f"{own['NAME']}_scale{suffix}", "OPTIONS": options}


DATABASES = {
    "default": _named("_empty"),
    "listeners": _named("_listeners"),
    "full": _named(""),
}
DATABASE_ROUTERS = ["benchmarks.scale_settings.Router"]
# What is emitted is told to nobody.
CELERY_BROKER_URL = "memory://"
# So that a moment has as many old deliveries of each status as it is asked to have.
WEBHOOKS_RETENTION_DAYS = {"succeeded": 30, "given_up": 30, "cancelled": 30}

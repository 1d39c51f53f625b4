"""How one of the compared apps is set up; its module makes one of these, named ``SETUP``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What to install, what Django is told, and what a project has to call.

    ``sender`` is what sends: a Celery ``worker``, a ``relay`` process of its own, or ``threads`` of
    the process that saves.
    """

    distribution: str
    apps: list[str]
    subscribe: Callable[[str], None]
    settings: dict[str, Any] = field(default_factory=dict)
    #: Called when all apps are ready.
    connect: Callable[[], None] = lambda: None
    sender: str = "worker"
    #: Arguments of ``python -m django`` that run a relay.
    relay: tuple[str, ...] = ()

"""Extensions: what the optional apps of this package add to the core, where they are installed.

An app installs its own when Django starts (``AppConfig.ready``); the core asks all there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

from django.dispatch import Signal


class Extension:
    """The extension of the core by one app: nothing but what the app overrides."""

    #: Each task that beat has to run for it, the id of the warning where beat does not, and what
    #: follows.
    periodic_tasks: Sequence[tuple[str, str, str]] = ()
    #: What :meth:`prune` removes, in the singular and the plural; None for an app without that.
    pruned: tuple[str, str] | None = None

    def lasting_tasks(self) -> Iterable[tuple[Any, float]]:
        """Return the tasks whose runs last, each with its seconds."""
        return ()

    def sweep(self, *, now: datetime) -> None:
        """Find what was forgotten; called by the task ``sweep``, with the database's time."""

    def prune(self, *, dry_run: bool = False, max_seconds: float = 60.0) -> int:
        """Remove what is old, and return how many rows that were."""
        return 0

    def problems(self, *, using: str) -> Iterable[Any]:
        """Return what is not well (``health_report.Problem``) and concerns operators."""
        return ()

    def metrics(self, *, now: datetime) -> Iterable[Any]:
        """Return what the rows say at a scrape: metric families of ``prometheus_client``."""
        return ()

    def counters(self) -> Iterable[tuple[Signal, Any]]:
        """Return signals that are counted for Prometheus, each with the receiver that counts."""
        return ()


_installed: list[Extension] = []


def install(extension: Extension) -> None:
    """Let the core ask an extension from now on."""
    _installed.append(extension)


def installed() -> Iterator[Extension]:
    """Yield the extensions of the optional apps that the project has installed."""
    yield from _installed

"""The extension of the core by audits."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from ..extensions import Extension
from ..sending import database
from ..sending.figures.health_report import Problem
from . import chain, problems, tasks


class AuditingExtension(Extension):
    """Entries that wait for their place, and what the last audit found."""

    periodic_tasks = (
        (
            str(tasks.audit.name),
            "webhooks.W021",
            "nobody is told of what is insecure, old or tampered with.",
        ),
    )

    def sweep(self, *, now: datetime) -> None:
        """Give entries their place in the chain whose process died before it could."""
        chain.try_to_extend(using=database.alias())

    def problems(self, *, using: str) -> Iterable[Problem]:
        """Return that the last audit found something severe."""
        return problems.severe(using=using)

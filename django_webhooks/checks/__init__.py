"""System checks: settings that cannot work, or should not be what they are.

``manage.py check --tag webhooks`` runs these alone; ``--deploy`` adds those for production.
Ids are never used again. A new module is imported here.
"""

from __future__ import annotations

from . import (
    celery_app,
    combinations,
    databases,
    hooks,
    names,
    observability,
    queues,
    receiving,
    receiving_views,
    rows,
    secrets,
    values,
    workers,
)

__all__ = [
    "celery_app",
    "combinations",
    "databases",
    "hooks",
    "names",
    "observability",
    "queues",
    "receiving",
    "receiving_views",
    "rows",
    "secrets",
    "values",
    "workers",
]

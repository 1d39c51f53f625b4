"""Metrics for Prometheus: what is counted as it happens, and what the rows say at each scrape.

Nothing here imports ``prometheus_client`` before WEBHOOKS_METRICS asks for it.
"""

from __future__ import annotations

import importlib.util

from ..conf import settings

__all__ = ["serve"]

#: What the name of each metric begins with.
PREFIX = "django_webhooks_"


def is_on() -> bool:
    """Say whether metrics are wanted, and the package that they need is installed."""
    return bool(settings.WEBHOOKS_METRICS) and is_installed()


def is_installed() -> bool:
    """Say whether the extra ``metrics`` is installed."""
    return importlib.util.find_spec("prometheus_client") is not None


def connect() -> None:
    """Count what happens in this process from now on, where metrics are on."""
    if is_on():
        from . import counting

        counting.connect()


def serve(port: int, *, addr: str = "127.0.0.1", rows: bool = False) -> None:
    """Answer scrapes at a port from a thread, where metrics are on: for workers, which have no URL.

    Whoever reaches the port may read it. The gauges read off the rows are told once, by the view;
    ``rows`` tells them here as well.
    """
    if is_on():
        from . import exposition

        exposition.serve(port, addr=addr, rows=rows)

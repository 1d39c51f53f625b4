"""The answer to a scrape: our counters of this process, or of all that share a folder; the rows."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Protocol

from django.db import connections
from prometheus_client import REGISTRY, CollectorRegistry, Metric, start_http_server
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from . import PREFIX, counting, rows

#: Names the folder in which the processes of a machine keep their counters for each other.
FOLDER = "PROMETHEUS_MULTIPROC_DIR"


class _Collects(Protocol):
    def collect(self) -> Iterable[Metric]: ...


class _Counters(Collector):
    """Our counters; of other programs' metrics, which stand beside ours, nothing."""

    def collect(self) -> Iterator[Metric]:
        """Yield our metrics."""
        folder = os.environ.get(FOLDER)
        found: _Collects = (
            MultiProcessCollector(None, path=folder)  # type: ignore[no-untyped-call]
            if folder
            else REGISTRY
        )
        for metric in found.collect():
            if metric.name.startswith(PREFIX):
                yield metric


class _Rows(Collector):
    """The gauges that are read off the rows."""

    def collect(self) -> Iterator[Metric]:
        """Yield it."""
        yield from rows.families()


class _RowsOfThread(_Rows):
    """The same for a thread that Django does not know: nobody else closes its connections."""

    def collect(self) -> Iterator[Metric]:
        """Yield it, and hang up."""
        try:
            yield from super().collect()
        finally:
            connections.close_all()


def answer(accept: str) -> tuple[bytes, str]:
    """Return what a scrape is answered, and its type."""
    encode, content_type = choose_encoder(accept)
    return encode(_registry(_Rows())), content_type


def serve(port: int, *, addr: str, rows: bool) -> None:
    """Answer scrapes at a port, from a thread that ends with the process."""
    counting.connect()
    registry = _registry(_RowsOfThread()) if rows else _registry()
    start_http_server(port, addr=addr, registry=registry)


def _registry(*others: Collector) -> CollectorRegistry:
    # A registry that asked collectors what they will yield would read the rows for nothing.
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Counters())
    for one in others:
        registry.register(one)
    return registry

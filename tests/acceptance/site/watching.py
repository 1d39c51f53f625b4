"""What a project adds to be watched: spans written to a file, metrics of a worker at a port."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from celery.signals import worker_ready


def install() -> None:
    """Do what the environment asks for."""
    if path := os.environ.get("ACCEPTANCE_SPANS"):
        trace_to(Path(path))
    if port := os.environ.get("ACCEPTANCE_METRICS_PORT"):

        @worker_ready.connect(weak=False)
        def serve(**kwargs: Any) -> None:
            from django_webhooks import metrics

            metrics.serve(int(port))


def trace_to(path: Path) -> None:
    """Write each span as a line of JSON; processes that are forked write to the same file."""
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

    exporter = ConsoleSpanExporter(
        out=path.open("a", buffering=1),
        formatter=lambda span: (span.to_json(indent=None) or "") + "\n",
    )
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)

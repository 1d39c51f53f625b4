"""Metrics and tracing that are asked for, and the packages that they need."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Any

from django.core.checks import CheckMessage, Warning

from ..conf import settings
from .system_check import system_check


@system_check("webhooks")
def check_metrics(**kwargs: Any) -> Iterator[CheckMessage]:
    """Check that there is something to count with."""
    if settings.WEBHOOKS_METRICS is not True or importlib.util.find_spec("prometheus_client"):
        return
    yield Warning(
        "WEBHOOKS_METRICS is on, but prometheus-client is not installed: nothing is counted.",
        hint="Install django-webhooks[metrics].",
        id="webhooks.W024",
    )


@system_check("webhooks")
def check_tracing(**kwargs: Any) -> Iterator[CheckMessage]:
    """Check that there is a trace to tell of."""
    if settings.WEBHOOKS_SEND_TRACEPARENT is False or importlib.util.find_spec("opentelemetry"):
        return
    yield Warning(
        "WEBHOOKS_SEND_TRACEPARENT is set, but OpenTelemetry is not installed: no trace is told.",
        hint="Install django-webhooks[tracing].",
        id="webhooks.W025",
    )

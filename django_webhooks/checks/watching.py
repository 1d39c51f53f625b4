"""Metrics and tracing that are asked for, and the packages that they need."""

from __future__ import annotations

import importlib.util
from typing import Any

from django.core.checks import CheckMessage, Warning, register

from ..conf import settings


@register("webhooks")
def check_metrics(**kwargs: Any) -> list[CheckMessage]:
    """Check that there is something to count with."""
    if settings.WEBHOOKS_METRICS is not True or importlib.util.find_spec("prometheus_client"):
        return []
    return [
        Warning(
            "WEBHOOKS_METRICS is on, but prometheus-client is not installed: nothing is counted.",
            hint="Install django-webhooks[metrics].",
            id="webhooks.W024",
        )
    ]


@register("webhooks")
def check_tracing(**kwargs: Any) -> list[CheckMessage]:
    """Check that there is a trace to tell of."""
    if settings.WEBHOOKS_SEND_TRACEPARENT is False or importlib.util.find_spec("opentelemetry"):
        return []
    return [
        Warning(
            "WEBHOOKS_SEND_TRACEPARENT is set, but OpenTelemetry is not installed: no trace is "
            "told.",
            hint="Install django-webhooks[tracing].",
            id="webhooks.W025",
        )
    ]

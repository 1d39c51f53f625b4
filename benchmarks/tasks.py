"""Plain Celery tasks that ours are compared with."""

from __future__ import annotations

import json

import requests
from celery import shared_task

from benchmarks.testbed import PAYLOAD

_session = requests.Session()


@shared_task(ignore_result=True, queue="webhooks")
def nothing() -> None:
    """Do nothing."""


@shared_task(ignore_result=True, queue="webhooks")
def post(url: str, key: str) -> None:
    """Post once, over a kept connection; no row, no signature, no retry."""
    body = json.dumps({"type": "order.paid", "timestamp": "", "data": PAYLOAD})
    headers = {"content-type": "application/json", "webhook-id": key}
    _session.post(url, data=body, headers=headers, timeout=15)

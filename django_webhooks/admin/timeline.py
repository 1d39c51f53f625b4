"""The page of a delivery: one sentence, its attempts, its payload, and a request to try by hand."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from .. import times
from ..models import Attempt, Delivery, Endpoint
from ..sending import attempts, wire
from ..sending.claims import routing
from . import badges, html
from .mixins import permitted, sees_hosts
from .times import in_text, moment

#: Attempts that are shown, the newest ones.
SHOWN = 100
MASK = "…"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """An attempt as the page shows it."""

    row: Attempt
    host: str
    started: SafeString
    badge: SafeString
    bar: int
    detail: str
    request_headers: list[tuple[str, str]]
    response_headers: list[tuple[str, str]]
    response_body: str


def context(request: HttpRequest, delivery: Delivery) -> dict[str, Any]:
    """Return what the template of the page shows."""
    attempts = list(
        Attempt.objects.using(delivery._state.db)
        .filter(delivery=delivery)
        .select_related("endpoint")
        .order_by("-pk")[:SHOWN]
    )[::-1]
    sees_payload = permitted(request, "view_payload")
    return {
        "sentence": sentence(request, delivery, attempts),
        "is_live": not delivery.is_over,
        "attempts": _shown(request, delivery, attempts),
        "sees_payload": sees_payload,
        "payload": pretty(bytes(delivery.event.body)) if sees_payload else "",
        "curl": curl(request, delivery) if sees_payload else "",
    }


def sentence(request: HttpRequest, delivery: Delivery, attempts: list[Attempt]) -> SafeString:
    """Return what became of the delivery, or why it waits, what happens next and when."""
    told = in_text(delivery.explain(shows_hosts=sees_hosts(request)))
    last = attempts[-1] if attempts else None
    if last is None or not last.endpoint_host:
        return told
    where = last.endpoint_host if sees_hosts(request) else html.masked(last.endpoint_host)
    if last.endpoint is not None:
        where = f"{where} ({last.endpoint})"
    words = _("It arrived at %(host)s.") if last.outcome == "succeeded" else _(
        "The last attempt went to %(host)s."
    )  # fmt: skip
    return format_html("{} {}", told, words % {"host": where})


def pretty(body: bytes) -> str:
    """Return a body in lines that are easy to read, or as it is where it is no JSON."""
    text = body.decode("utf-8", "replace")
    try:
        return json.dumps(json.loads(text), ensure_ascii=False, indent=2)
    except ValueError:
        return text


def curl(request: HttpRequest, delivery: Delivery) -> str:
    """Return a command that sends the delivery by hand, signed for now; empty where it cannot.

    The receiver takes the signature for its tolerance, five minutes as a rule. Credentials are left
    out, and the URL for those who may not see it.
    """
    subscription = delivery.subscription
    if subscription is None or not permitted(request, "replay_delivery"):
        return ""
    now = times.now()
    loaded = routing.refresh([subscription.pk], using=str(delivery._state.db))[subscription.pk]
    route = routing.of(loaded, delivery)
    endpoint = route.endpoint or route.trial or loaded.endpoints.first()
    if endpoint is None or not routing.is_readable(loaded, endpoint, now=now):
        return ""
    job = attempts.Job(
        delivery=delivery, subscription=loaded, endpoint=endpoint, policy=loaded.retry_policy
    )
    secret = {name.lower() for name in wire.credentials(endpoint)}
    sees_url = permitted(request, "change_endpoint")
    url = shlex.quote(endpoint.url) if sees_url else '"$URL"'
    lines = [f"curl --include --request POST {url}"]
    for name, value in wire.request_headers(job, now=now).items():
        quoted = shlex.quote(f"{name}: {value}")
        if name.lower() in secret:
            # A name may hold what a shell would run: it is never inside double quotes.
            quoted = f'{shlex.quote(f"{name}: ")}"${_variable(name)}"'
        lines.append(f"  --header {quoted}")
    # A body that begins with @ is no file.
    lines.append(f"  --data-raw {shlex.quote(bytes(delivery.event.body).decode(errors='replace'))}")
    return " \\\n".join(lines)


def _variable(name: str) -> str:
    return re.sub(r"[^A-Z0-9_]", "_", f"{'_' * name[:1].isdigit()}{name.upper()}")


def _shown(request: HttpRequest, delivery: Delivery, attempts: list[Attempt]) -> list[Shown]:
    sees, sees_payload = sees_hosts(request), permitted(request, "view_payload")
    longest = max((one.duration_ms for one in attempts), default=0) or 1
    shown = []
    before = ""
    for one in attempts:
        shown.append(
            Shown(
                row=one,
                host=one.endpoint_host if sees else html.masked(one.endpoint_host),
                started=moment(one.started_at),
                badge=badges.status(one.outcome, one.get_outcome_display()),
                bar=max(1, round(100 * one.duration_ms / longest)),
                detail=one.detail if sees or not one.detail else MASK,
                request_headers=_request_headers(delivery, one, before),
                response_headers=(
                    [(name, str(value)) for name, value in one.response_headers.items()]
                    if sees_payload
                    else []
                ),
                response_body=one.response_body if sees_payload else "",
            )
        )
        before = one.reason
    return shown


def _request_headers(delivery: Delivery, one: Attempt, before: str) -> list[tuple[str, str]]:
    """Return the headers as they were sent, as far as they are known, with secrets masked."""
    endpoint: Endpoint | None = one.endpoint
    headers = {
        "content-type": "application/json",
        "user-agent": wire.USER_AGENT,
        "webhook-id": delivery.message_id,
        "webhook-timestamp": str(int(one.started_at.timestamp())),
        "webhook-signature": MASK,
        "webhook-attempt": str(one.number),
    }
    if one.number > 1 and before:
        headers["webhook-retry-reason"] = before
    if endpoint is not None and endpoint.is_readable:
        headers |= dict.fromkeys(wire.credentials(endpoint), MASK)
    return list(headers.items())

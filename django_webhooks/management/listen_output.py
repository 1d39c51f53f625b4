"""How arrivals are shown: for people, inert whatever a stranger sent, or as a JSON object."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from ..policies.cleaning import written_out
from ..receiving.observed_request import Arrival

#: Lines of a body that are shown, and characters of each line.
MAX_LINES, MAX_WIDTH = 60, 200


def inert(text: str) -> str:
    """Return a text with all that a terminal would act on written out, and cut to a line."""
    return written_out(text[:MAX_WIDTH] + ("…" if len(text) > MAX_WIDTH else ""))


def for_people(arrival: Arrival) -> str:
    """Return an arrival as lines of text."""
    return "\n".join(_lines(arrival))


def as_json(arrival: Arrival) -> str:
    """Return an arrival as a JSON object in one line of ASCII."""
    headers, payload = arrival.headers, arrival.payload
    found: dict[str, Any] = {
        "at": datetime.fromtimestamp(arrival.at, UTC).isoformat(timespec="milliseconds"),
        "method": arrival.method,
        "path": arrival.path,
        "verdict": "verified" if arrival.is_verified else "refused",
        "refusal": arrival.refusal,
        "message_id": arrival.message_id,
        "times": arrival.times,
        "is_repeat": arrival.is_repeat,
        "event_type": arrival.event_type,
        "attempt": _number(headers.get("webhook-attempt", "")),
        "max_attempts": _number(headers.get("webhook-max-attempts", "")),
        "retry_reason": headers.get("webhook-retry-reason", ""),
        "endpoint_role": headers.get("webhook-endpoint-role", ""),
        "failover_reason": headers.get("webhook-failover-reason", ""),
        "answer": arrival.answer,
    }
    try:
        return json.dumps({**found, "payload": payload, "body": _text_unless(payload, arrival)})
    except RecursionError:
        return json.dumps({**found, "payload": None, "body": _text(arrival)})


def _lines(arrival: Arrival) -> Iterator[str]:
    moment = datetime.fromtimestamp(arrival.at, UTC).astimezone()
    verdict = "verified" if arrival.is_verified else "refused"
    if arrival.is_repeat:
        verdict = "verified, repeat"
    facts = [f"{moment:%H:%M:%S}", arrival.method, arrival.path, verdict]
    yield "  ".join(inert(one) for one in [*facts, arrival.event_type, arrival.message_id] if one)
    if arrival.refusal:
        yield f"    {inert(arrival.refusal)}"
    if arrival.times > 1:
        yield f"    its message came {arrival.times} times" + (
            ", and was accepted before" if arrival.is_repeat else ""
        )
    if attempt := _attempt(arrival):
        yield f"    {attempt}"
    yield f"    answered {arrival.answer}"
    shown = _pretty(arrival).split("\n")
    for line in shown[:MAX_LINES]:
        yield f"      {inert(line)}".rstrip()
    if len(shown) > MAX_LINES:
        yield f"      … {len(shown) - MAX_LINES:,} more lines"


def _attempt(arrival: Arrival) -> str:
    found = {
        name: inert(arrival.headers.get(f"webhook-{name}", ""))
        for name in ("attempt", "max-attempts", "retry-reason", "endpoint-role", "failover-reason")
    }
    parts = []
    if found["attempt"]:
        of = f" of {found['max-attempts']}" if found["max-attempts"] else ""
        parts.append(f"attempt {found['attempt']}{of}")
    if found["retry-reason"]:
        parts.append(f"after {found['retry-reason']}")
    if found["endpoint-role"]:
        why = f" ({found['failover-reason']})" if found["failover-reason"] else ""
        parts.append(f"at the {found['endpoint-role']} endpoint{why}")
    return ", ".join(parts)


def _pretty(arrival: Arrival) -> str:
    payload = arrival.payload
    if payload is None:
        return _text(arrival)
    try:
        return json.dumps(payload, indent=2, ensure_ascii=False)
    except RecursionError:
        return _text(arrival)


def _text_unless(payload: Any, arrival: Arrival) -> str | None:
    return _text(arrival) if payload is None else None


def _text(arrival: Arrival) -> str:
    return arrival.body.decode("utf-8", "replace")


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None

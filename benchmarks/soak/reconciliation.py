"""The account: what was committed, what arrived at each subscription, how often, and in order."""

from __future__ import annotations

import contextlib
import json
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import psycopg

from tests.acceptance.harness import Harness
from tests.receivers import Request

from .faults import Done
from .receivers import Receivers

STATES = """
    SELECT s.name, d.status, count(*)
    FROM django_webhooks_delivery d JOIN django_webhooks_subscription s ON s.id = d.subscription_id
    GROUP BY 1, 2
"""


def wait(harness: Harness, receivers: Receivers, *, seconds: float) -> float | None:
    """Wait until nothing waits, and return after how many seconds; None where it never was so."""
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        with contextlib.suppress(psycopg.Error):
            if not harness.query(
                "SELECT 1 FROM django_webhooks_delivery WHERE status = 'waiting' LIMIT 1"
            ):
                settled = time.monotonic() - began
                # What is repeated although it is over is so before long.
                time.sleep(3)
                return round(settled, 1)
        time.sleep(0.5)
    return None


def balance(harness: Harness, receivers: Receivers, done: Sequence[Done]) -> dict[str, Any]:
    """Compare what was committed with what was taken."""
    committed = {row[0] for row in harness.query("SELECT id FROM site_thing")}
    states: dict[str, Counter[str]] = {name: Counter() for name in receivers.endpoints}
    for name, status, count in harness.query(STATES):
        states[name][status] = count
    subscriptions = {
        name: _subscription(receivers.requests(name), committed, states[name])
        for name in receivers.endpoints
    }
    if "ordered" in subscriptions:
        subscriptions["ordered"]["out_of_order"] = out_of_order(receivers.requests("ordered"))
    allowed = sum(one.repeats for one in done)
    repeats = sum(one["repeats"] for one in subscriptions.values())
    is_well = repeats <= allowed and not any(
        one[what]
        for one in subscriptions.values()
        for what in ("lost", "stuck", "unknown", "altered", "out_of_order")
    )
    return {
        "is_well": is_well and bool(committed),
        "committed": len(committed),
        "subscriptions": subscriptions,
        "repeats": repeats,
        "repeats_allowed": allowed,
        "faults": dict(Counter(one.name for one in done)),
    }


def _subscription(
    requests: Sequence[Request], committed: set[int], states: Counter[str]
) -> dict[str, Any]:
    taken = [one for one in requests if one.answer.takes]
    bodies: dict[str, set[bytes]] = {}
    ids: dict[int, set[str]] = {}
    for one in requests:
        bodies.setdefault(one.headers["webhook-id"], set()).add(one.body)
        ids.setdefault(_data(one)["id"], set()).add(one.headers["webhook-id"])
    arrived = {_data(one)["id"] for one in taken}
    counts = Counter(one.headers["webhook-id"] for one in taken)
    return {
        "recorded": states.total(),
        "arrived": len(arrived),
        "lost": len(committed - arrived),
        "stuck": states["waiting"],
        "unknown": len(arrived - committed),
        "altered": sum(len(one) > 1 for one in (*bodies.values(), *ids.values())),
        "repeats": sum(counts.values()) - len(counts),
        "most_often": max(counts.values(), default=0),
        "requests": len(requests),
        "states": dict(states),
        "out_of_order": 0,
    }


def out_of_order(requests: Sequence[Request]) -> int:
    """Return how many were first taken after a later one of their key."""
    latest: dict[str, int] = {}
    seen: set[int] = set()
    count = 0
    for one in requests:
        data = _data(one)
        if not one.answer.takes or data["id"] in seen:
            continue
        seen.add(data["id"])
        count += data["id"] < latest.get(data["name"], 0)
        latest[data["name"]] = max(data["id"], latest.get(data["name"], 0))
    return count


def _data(request: Request) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(request.body)["data"]
    return found


def table(found: dict[str, Any]) -> str:
    """Return the account for people."""
    columns = (
        "recorded", "arrived", "lost", "stuck", "unknown", "altered", "out_of_order", "repeats",
        "most_often", "requests",
    )  # fmt: skip
    lines = [
        f"seed {found['seed']}, {found['broker']}, {found['minutes']} minutes, "
        f"{sum(found['faults'].values())} faults; {found['committed']} events committed, "
        f"{found['unanswered']} requests to the site failed",
        f"{'':10}" + "".join(f"{one.replace('_', ' '):>13}" for one in columns),
    ]
    for name, one in found["subscriptions"].items():
        lines.append(f"{name:10}" + "".join(f"{one[column]:>13}" for column in columns))
    lines.append(f"repeats: {found['repeats']} of {found['repeats_allowed']} allowed")
    lines.append(f"nothing waited any more after {found['settled_seconds']} s")
    for when, processes in found["workers"].items():
        shown = ", ".join(f"{one['rss_mib']} MiB {one['files']} files" for one in processes)
        lines.append(f"the witness {when}: {shown}")
    lines += [f"{count:4} × {name}" for name, count in sorted(found["faults"].items())]
    lines.append("All is well." if found["is_well"] else "NOT WELL.")
    return "\n".join(lines)
